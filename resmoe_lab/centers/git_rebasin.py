"""The mean of the experts after Git Re-Basin's weight matching."""

from __future__ import annotations

import time

from .._core.progress import Progress, silent
from ..experts import ExpertStack
from ._alignment import merge_many
from ._base import CENTERS, Center, CenterMethod, mean_of
from ._statistics import Statistics


@CENTERS.register("git-rebasin")
class GitRebasin(CenterMethod):
    """Match every expert with the mean of the others until nothing changes, and average.

    References
    ----------
    Git Re-Basin, arXiv 2209.04836, algorithm 3 (MergeMany).
    """

    name = "git-rebasin"

    def find(self, stack: ExpertStack, *, statistics: Statistics | None = None, progress: Progress = silent) -> Center:
        """Align the experts and average them."""
        begun = time.perf_counter()
        orders = merge_many(stack, seed=self.seed, progress=progress)
        return mean_of(stack, orders, name=self.name, begun=begun)
