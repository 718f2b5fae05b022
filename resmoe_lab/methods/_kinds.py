"""The two ways of compressing a matrix that several methods share."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ._base import Method
from ._pieces import LowRank, Sparse, prune, prune_errors, prune_outline, truncate, truncate_errors, truncate_outline


class PruningMethod(Method):
    """Keeps the entries of largest magnitude (ResMoE, appendix A.3)."""

    def compress_matrix(self, matrix: torch.Tensor, keep: float) -> Sparse:
        """Keep the largest entries, one threshold for the whole matrix."""
        return prune(matrix, keep)

    def matrix_errors(self, matrix: torch.Tensor, keeps: Sequence[float]) -> list[float]:
        """Errors at every keep, from one sort."""
        return prune_errors(matrix, keeps)

    def outline(self, rows: int, columns: int, *, keep: float) -> Sparse:
        """Sizes without contents."""
        return prune_outline(rows, columns, keep)


class LowRankMethod(Method):
    """Keeps the largest singular values (ResMoE, appendix A.4)."""

    def compress_matrix(self, matrix: torch.Tensor, keep: float) -> LowRank:
        """Keep as many singular values as fit into the kept fraction."""
        return truncate(matrix, keep)

    def matrix_errors(self, matrix: torch.Tensor, keeps: Sequence[float]) -> list[float]:
        """Errors at every keep, from one spectrum."""
        return truncate_errors(matrix, keeps)

    def outline(self, rows: int, columns: int, *, keep: float) -> LowRank:
        """Sizes without contents."""
        return truncate_outline(rows, columns, keep)
