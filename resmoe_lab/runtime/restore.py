"""Restored experts inside the transformers model they came from."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial

import torch

from ..checkpoint import Checkpoint
from ..experts import ExpertStack, family_of


@contextmanager
def restored_experts(
    model: torch.nn.Module, checkpoint: Checkpoint, stacks: Iterable[ExpertStack], *, reload: bool = False
) -> Iterator[torch.nn.Module]:
    """Run a model with other experts, and put its own back afterwards.

    Parameters
    ----------
    model
        The transformers model of the checkpoint.
    checkpoint
        Decides the family.
    stacks
        The experts to run with, one stack a layer. They are taken one at a time, and none is kept.
    reload
        Take the model's own experts from the checkpoint again, one layer in memory at a time, for a model that still
        has them as they were loaded; otherwise all of them are kept in memory.
    """
    family = family_of(checkpoint)
    originals: list[Callable[[], ExpertStack]] = []
    try:
        for stack in stacks:
            if reload:
                originals.append(partial(family.load, checkpoint, stack.layer, device=str(stack.weights.device)))
            else:
                own = family.from_model(model, stack.layer)
                originals.append(lambda own=own: own)  # type: ignore[misc]
            family.to_model(model, stack)
            del stack  # the next one is made while this name would hold it
        yield model
    finally:
        for original in originals:
            family.to_model(model, original())
