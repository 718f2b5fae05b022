"""No center: a residual is the expert itself."""

from __future__ import annotations

import torch

from .._core.progress import Progress, silent
from ..experts import ExpertStack
from ._base import CENTERS, Center, CenterMethod
from ._statistics import Statistics


@CENTERS.register("none")
class NoCenter(CenterMethod):
    """A center of zeros, which nobody has to store."""

    name = "none"
    stored = False

    def find(self, stack: ExpertStack, *, statistics: Statistics | None = None, progress: Progress = silent) -> Center:
        """Return zeros, and the identity for every permutation."""
        identity = torch.arange(stack.intermediate_size).repeat(stack.num_experts, 1)
        return Center(
            name=self.name,
            matrix=torch.zeros_like(stack.weights[0]),
            permutations=identity,
            objective=stack.mean_squared_norm(),
            solver=self.name,
            history=(),
            iterations=0,
            seconds=0.0,
            certificate=None,
            stored=False,
        )
