"""Truncated singular value decomposition of each expert by itself."""

from ._base import METHODS
from ._kinds import LowRankMethod


@METHODS.register("svd")
class SVD(LowRankMethod):
    """Keep the largest singular values of every expert's design matrix."""

    name = "svd"
    title = "SVD"
    reference = "ResMoE, appendix A.4"
