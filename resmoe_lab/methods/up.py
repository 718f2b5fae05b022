"""Unstructured magnitude pruning of each expert by itself."""

from ._base import METHODS
from ._kinds import PruningMethod


@METHODS.register("up")
class UP(PruningMethod):
    """Keep the largest weights of every expert."""

    name = "up"
    title = "UP"
    reference = "ResMoE, appendix A.3 (Pruning)"
