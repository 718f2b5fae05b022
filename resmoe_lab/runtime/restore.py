"""Restored experts inside the transformers model they came from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch

from ..checkpoint import Checkpoint
from ..experts import ExpertStack, family_of


@contextmanager
def restored_experts(
    model: torch.nn.Module, checkpoint: Checkpoint, stacks: Iterable[ExpertStack]
) -> Iterator[torch.nn.Module]:
    """Run a model with other experts, and put its own back afterwards.

    Parameters
    ----------
    model
        The transformers model of the checkpoint.
    checkpoint
        Decides the family.
    stacks
        The experts to run with, one stack a layer.
    """
    family = family_of(checkpoint)
    originals = []
    try:
        for stack in stacks:
            originals.append(family.from_model(model, stack.layer))
            family.to_model(model, stack)
        yield model
    finally:
        for original in originals:
            family.to_model(model, original)
