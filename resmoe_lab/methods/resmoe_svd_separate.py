"""ResMoE with low-rank factors of each weight matrix of the residuals: an option beyond the paper, the fast one."""

from __future__ import annotations

from ._base import METHODS
from ._kinds import SeparateLowRankMethod


@METHODS.register("resmoe-svd-separate")
class ResMoESVDSeparate(SeparateLowRankMethod):
    """Store the center expert, and low-rank factors of every weight matrix of the residuals."""

    name = "resmoe-svd-separate"
    title = "ResMoE (SVD, separate)"
    reference = "beyond the paper"
    uses_center = True
