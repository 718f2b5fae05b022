"""Unstructured magnitude pruning: of each expert by itself, or of its residual from a center."""

from ._kinds import PruningMethod
from ._registry import METHODS


@METHODS.register("up", title="UP", reference="ResMoE, appendix A.3 (Pruning)")
@METHODS.register("resmoe-up", title="ResMoE (UP)", reference="ResMoE, Algorithm 1 and appendix A.3", uses_center=True)
class UnstructuredPruning(PruningMethod):
    """Keep the largest entries of every expert, or of every residual."""
