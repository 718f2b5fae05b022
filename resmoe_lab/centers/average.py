"""The plain average of the experts as they stand, with no alignment at all."""

from __future__ import annotations

import time

import torch

from .._core.progress import Progress, silent
from ..experts import ExpertStack
from ._base import CENTERS, Center, mean_of
from ._statistics import Statistics


@CENTERS.register("average")
def average(
    stack: ExpertStack, *, seed: int = 0, progress: Progress = silent, statistics: Statistics | None = None
) -> Center:
    """Average the design matrices row by row; every permutation is the identity."""
    identity = torch.arange(stack.intermediate_size).repeat(stack.num_experts, 1)
    return mean_of(stack, identity, name="average", begun=time.perf_counter())
