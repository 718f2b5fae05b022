"""The plain average of the experts as they stand, with no alignment at all."""

from __future__ import annotations

import time

import torch

from .._core.progress import Progress, silent
from ..experts import ExpertStack
from ..transport import objective
from ._base import CENTERS, CommonExpert


@CENTERS.register("average")
def average(stack: ExpertStack, *, seed: int = 0, progress: Progress = silent) -> CommonExpert:
    """Average the design matrices row by row; every permutation is the identity."""
    begun = time.perf_counter()
    center = stack.weights.double().mean(dim=0).to(stack.weights.dtype)
    identity = torch.arange(stack.intermediate_size).expand(stack.num_experts, -1).contiguous()
    return CommonExpert(
        name="average",
        center=center,
        permutations=identity,
        objective=objective(stack.weights, identity, center),
        solver="average",
        history=(),
        iterations=1,
        seconds=time.perf_counter() - begun,
        certificate=None,
    )
