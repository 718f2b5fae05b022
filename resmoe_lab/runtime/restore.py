"""Restored experts inside the transformers model they came from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

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
    originals: list[tuple[int, ExpertStack | None]] = []
    try:
        for stack in stacks:
            originals.append((stack.layer, None if reload else family.from_model(model, stack.layer)))
            family.to_model(model, stack)
            del stack  # the next one is made while this name would hold it
        yield model
    finally:
        for layer, own in originals:
            family.to_model(model, family.load(checkpoint, layer) if own is None else own)
