"""Git Re-Basin: experts aligned by weight matching, and merged evenly."""

from __future__ import annotations

import torch

from ..centers import merge_many
from ..experts import ExpertStack
from ._merging import MergingMethod
from ._registry import METHODS


@METHODS.register(
    "git-rebasin", title="Git Re-Basin", reference="arXiv 2209.04836, algorithm 3 (MergeMany); ResMoE, appendix A.3"
)
class GitRebasin(MergingMethod):
    """Align each expert with the mean of the others until nothing changes, then average each group evenly."""

    weighted = False

    def align(self, stack: ExpertStack) -> torch.Tensor:
        """Weight matching, in an order drawn by the seed."""
        return merge_many(stack, seed=self.seed)
