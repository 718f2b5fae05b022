"""Truncated singular value decomposition: of each expert by itself, or of its residual from a center."""

from ._kinds import LowRankMethod
from ._registry import METHODS


@METHODS.register("svd", title="SVD", reference="ResMoE, appendix A.4")
@METHODS.register(
    "resmoe-svd", title="ResMoE (SVD)", reference="ResMoE, Algorithm 1 and appendix A.4", uses_center=True
)
class TruncatedSVD(LowRankMethod):
    """Keep the largest singular values of every design matrix, or of every residual."""
