"""No common expert: a residual is the expert itself."""

from __future__ import annotations

import torch

from .._core.progress import Progress, silent
from ..experts import ExpertStack
from ._base import CENTERS, Center
from ._statistics import Statistics


@CENTERS.register("none")
def none(
    stack: ExpertStack, *, seed: int = 0, progress: Progress = silent, statistics: Statistics | None = None
) -> Center:
    """Return a center of zeros, which nobody has to store."""
    identity = torch.arange(stack.intermediate_size).repeat(stack.num_experts, 1)
    return Center(
        name="none",
        matrix=torch.zeros_like(stack.weights[0]),
        permutations=identity,
        objective=stack.mean_squared_norm(),
        solver="none",
        history=(),
        iterations=0,
        seconds=0.0,
        certificate=None,
        stored=False,
    )
