"""Low-rank factors of each weight matrix by itself: an option beyond the paper, the fastest to run."""

from ._kinds import SeparateLowRankMethod
from ._registry import METHODS


@METHODS.register("svd-separate", title="SVD (separate)", reference="beyond the paper")
@METHODS.register("resmoe-svd-separate", title="ResMoE (SVD, separate)", reference="beyond the paper", uses_center=True)
class SeparateSVD(SeparateLowRankMethod):
    """Store low-rank factors of every weight matrix of every expert, or of every residual."""
