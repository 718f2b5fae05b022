"""ResMoE with pruned residuals."""

from ._base import METHODS
from ._kinds import PruningMethod


@METHODS.register("resmoe-up")
class ResMoEUP(PruningMethod):
    """Store the center expert and the largest entries of every residual."""

    name = "resmoe-up"
    title = "ResMoE (UP)"
    reference = "ResMoE, Algorithm 1 and appendix A.3"
    uses_center = True
