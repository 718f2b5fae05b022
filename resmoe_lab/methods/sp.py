"""Structured pruning: whole neurons of each expert."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch

from ..experts import LayerShape
from ..store.encodings import roundtrip
from ..store.layout import Layout
from ..store.matrices import CompressedMatrix, NeuronSubset
from ._choices import kept_entries, neurons_by_norm, prune_neurons, prune_neurons_errors
from ._kinds import MatrixMethod
from ._registry import METHODS
from ._sums import first_sums


@METHODS.register("sp", title="SP", reference="ResMoE, appendix A.3 (Pruning)")
class StructuredPruning(MatrixMethod):
    """Keep the neurons of every expert whose design rows have the largest L1 norm."""

    matrix_type: ClassVar[type[CompressedMatrix]] = NeuronSubset

    def count(self, shape: LayerShape, keep: float) -> int:
        """Return how many neurons are kept."""
        return kept_entries(shape.intermediate_size, keep)

    def compress_matrix(self, matrix: torch.Tensor, keep: float, hint: Any = None) -> NeuronSubset:
        """Keep the largest neurons: a smaller expert."""
        return prune_neurons(matrix, keep)

    def exact_errors(self, matrix: torch.Tensor, keeps: Sequence[float], hint: Any = None) -> list[float]:
        """Errors at every keep, from one sort of the neurons."""
        return prune_neurons_errors(matrix, keeps)

    def stored_errors(
        self, matrix: torch.Tensor, keeps: Sequence[float], layout: Layout, hint: Any = None
    ) -> list[float]:
        """Add what rounding costs the neurons that are kept: rows are rounded by themselves."""
        rounded = (matrix - roundtrip(matrix, layout.encoding)).double().square().sum(1)
        largest_first = rounded[neurons_by_norm(matrix).flip(0)]
        added = first_sums(largest_first, [kept_entries(len(matrix), keep) for keep in keeps])
        return [exact + rounding for exact, rounding in zip(self.exact_errors(matrix, keeps), added, strict=True)]
