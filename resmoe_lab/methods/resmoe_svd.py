"""ResMoE with low-rank residuals."""

from ._base import METHODS
from ._kinds import LowRankMethod


@METHODS.register("resmoe-svd")
class ResMoESVD(LowRankMethod):
    """Store the center expert and the largest singular values of every residual."""

    name = "resmoe-svd"
    title = "ResMoE (SVD)"
    reference = "ResMoE, Algorithm 1 and appendix A.4"
    uses_center = True
