"""Structured pruning: whole neurons of each expert."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from ..experts import LayerShape
from ._base import METHODS
from ._choices import prune_neurons, prune_neurons_errors, prune_neurons_outline
from ._kinds import MatrixMethod
from ._pieces import Neurons


@METHODS.register("sp")
class SP(MatrixMethod):
    """Keep the neurons of every expert whose design rows have the largest L1 norm."""

    name = "sp"
    title = "SP"
    reference = "ResMoE, appendix A.3 (Pruning)"

    def compress_matrix(self, matrix: torch.Tensor, keep: float, hint: Any = None) -> Neurons:
        """Keep the largest neurons: a smaller expert."""
        return prune_neurons(matrix, keep)

    def matrix_errors(self, matrix: torch.Tensor, keeps: Sequence[float], hint: Any = None) -> list[float]:
        """Errors at every keep, from one sort of the neurons."""
        return prune_neurons_errors(matrix, keeps)

    def piece_outline(self, shape: LayerShape, keep: float) -> Neurons:
        """Sizes without contents."""
        return prune_neurons_outline(shape.intermediate_size, shape.width, keep)
