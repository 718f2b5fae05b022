"""The plain average of the experts as they stand, with no alignment at all."""

from __future__ import annotations

import time

import torch

from .._core.progress import Progress, silent
from ..experts import ExpertStack
from ._base import CENTERS, Center, CenterMethod, mean_of
from ._statistics import Statistics


@CENTERS.register("average")
class Average(CenterMethod):
    """Average the design matrices row by row; every permutation is the identity."""

    name = "average"

    def find(self, stack: ExpertStack, *, statistics: Statistics | None = None, progress: Progress = silent) -> Center:
        """Average the experts."""
        identity = torch.arange(stack.intermediate_size).repeat(stack.num_experts, 1)
        return mean_of(stack, identity, name=self.name, begun=time.perf_counter())
