"""M-SMoE: experts aligned with the first one, grouped around the most used, and merged by their usage."""

from __future__ import annotations

import torch

from ..centers import align_with
from ..experts import ExpertStack
from ._merging import MergingMethod
from ._registry import METHODS


@METHODS.register("m-smoe", title="M-SMoE", reference="arXiv 2310.01334; ResMoE, appendix A.3")
class MSMoE(MergingMethod):
    """Align the neurons, then merge each group by the share of the tokens that its experts receive."""

    weighted = True

    def align(self, stack: ExpertStack) -> torch.Tensor:
        """Match every expert's neurons with those of expert 0."""
        return align_with(stack, 0)
