"""Methods that compress one matrix an expert, and the two ways of doing it that several share."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from itertools import repeat
from typing import Any

import torch

from .._core.errors import UsageError
from .._core.params import KEEP
from .._core.threads import map_parallel
from ..centers import Center, Statistics
from ..experts import ExpertStack, LayerShape
from ._base import CompressedLayer, Method
from ._choices import (
    prune,
    prune_errors,
    prune_outline,
    truncate,
    truncate_apart,
    truncate_apart_errors,
    truncate_apart_outline,
    truncate_errors,
    truncate_outline,
)
from ._pieces import LowRank, Piece, SeparateLowRank, Sparse


class MatrixMethod(Method):
    """Compresses every expert, or its residual, by itself."""

    @abstractmethod
    def compress_matrix(self, matrix: torch.Tensor, keep: float, hint: Any = None) -> Piece:
        """Compress one (p_I, D) matrix: an expert, or its residual; `hint` is what :meth:`hints` gave for it."""

    @abstractmethod
    def matrix_errors(self, matrix: torch.Tensor, keeps: Sequence[float], hint: Any = None) -> list[float]:
        """Squared Frobenius error that :meth:`compress_matrix` leaves at every keep."""

    @abstractmethod
    def piece_outline(self, shape: LayerShape, keep: float) -> Piece:
        """The form of the piece that :meth:`compress_matrix` makes of such a matrix, on the meta device."""

    def compress(
        self,
        stack: ExpertStack,
        keep: float,
        center: Center | None = None,
        *,
        statistics: Statistics | None = None,
    ) -> CompressedLayer:
        """Compress each expert, or its residual."""
        KEEP.validate(keep)
        pairs = zip(self.matrices(stack, center), self.hints(stack, center, statistics), strict=False)
        return self._layer(keep, [self.compress_matrix(matrix, keep, hint) for matrix, hint in pairs], center)

    def errors(
        self,
        stack: ExpertStack,
        keeps: Sequence[float],
        center: Center | None = None,
        *,
        statistics: Statistics | None = None,
    ) -> list[float]:
        """Approximation error at every keep: the mean of the experts' own."""
        for keep in keeps:
            KEEP.validate(keep)
        pairs = zip(self.matrices(stack, center), self.hints(stack, center, statistics), strict=False)
        curves = map_parallel(lambda pair: self.matrix_errors(pair[0], keeps, pair[1]), pairs)
        return [sum(errors) / stack.num_experts for errors in zip(*curves, strict=True)]

    def outline(self, shape: LayerShape, keep: float) -> tuple[Piece, ...]:
        """One piece an expert."""
        return (self.piece_outline(shape, keep),) * shape.num_experts

    def matrices(self, stack: ExpertStack, center: Center | None) -> Iterator[torch.Tensor]:
        """Yield what the method compresses: experts, or their residuals, one at a time."""
        if not self.uses_center:
            return iter(stack.weights)
        if center is None:
            raise UsageError(f"method {self.name!r} needs a center: find one first, for example 'wasserstein'")
        return center.residuals(stack)

    def hints(self, stack: ExpertStack, center: Center | None, statistics: Statistics | None) -> Iterator[Any]:
        """Yield what the method knows of each expert beside its matrix: nothing, unless a method says otherwise."""
        return repeat(None)

    def _layer(self, keep: float, pieces: Sequence[Piece], center: Center | None) -> CompressedLayer:
        stored = center if self.uses_center and center is not None and center.stored else None
        return CompressedLayer(self.name, keep, tuple(pieces), stored)


class PruningMethod(MatrixMethod):
    """Keeps the entries of largest magnitude (ResMoE, appendix A.3)."""

    def compress_matrix(self, matrix: torch.Tensor, keep: float, hint: torch.Tensor | None = None) -> Sparse:
        """Keep the largest entries, one threshold for the whole matrix."""
        return prune(matrix, keep, hint)

    def matrix_errors(
        self, matrix: torch.Tensor, keeps: Sequence[float], hint: torch.Tensor | None = None
    ) -> list[float]:
        """Errors at every keep, from one look at the entries."""
        return prune_errors(matrix, keeps, hint)

    def piece_outline(self, shape: LayerShape, keep: float) -> Sparse:
        """Sizes without contents."""
        return prune_outline(shape.intermediate_size, shape.width, keep)


class LowRankMethod(MatrixMethod):
    """Keeps the largest singular values (ResMoE, appendix A.4)."""

    def compress_matrix(self, matrix: torch.Tensor, keep: float, hint: Any = None) -> LowRank:
        """Keep as many singular values as fit into the kept fraction."""
        return truncate(matrix, keep, hint)

    def matrix_errors(self, matrix: torch.Tensor, keeps: Sequence[float], hint: Any = None) -> list[float]:
        """Errors at every keep, from one spectrum."""
        return truncate_errors(matrix, keeps, hint)

    def piece_outline(self, shape: LayerShape, keep: float) -> LowRank:
        """Sizes without contents."""
        return truncate_outline(shape.intermediate_size, shape.width, keep)


class SeparateLowRankMethod(MatrixMethod):
    """Keeps the largest singular values of each weight matrix by itself: fewer products for a token than joint factors.

    At the same kept fraction, joint factors of the design matrix leave a smaller error: they share their left one.
    """

    def compress_matrix(self, matrix: torch.Tensor, keep: float, hint: tuple[int, ...] = ()) -> SeparateLowRank:
        """Keep as many singular values of each weight matrix as fit into the kept fraction of it."""
        return truncate_apart(matrix, hint, keep)

    def matrix_errors(self, matrix: torch.Tensor, keeps: Sequence[float], hint: tuple[int, ...] = ()) -> list[float]:
        """Errors at every keep, from one spectrum of each weight matrix."""
        return truncate_apart_errors(matrix, hint, keeps)

    def piece_outline(self, shape: LayerShape, keep: float) -> SeparateLowRank:
        """Sizes without contents."""
        return truncate_apart_outline(shape.intermediate_size, shape.widths, keep)

    def hints(self, stack: ExpertStack, center: Center | None, statistics: Statistics | None) -> Iterator[Any]:
        """Yield the columns of each weight matrix."""
        return repeat(stack.shape.widths)
