"""Methods that compress one matrix an expert, and the ways of doing it that several share."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from itertools import islice, repeat
from typing import Any, ClassVar

import torch

from .._core.params import KEEP
from .._core.threads import map_parallel
from ..centers import Center, Statistics
from ..experts import ExpertStack, LayerShape
from ..store.formats import FORMATS
from ..store.layout import DEFAULT_STORAGE, Layout, Storage, weight_blocks
from ..store.matrices import CompressedMatrix, LowRankMatrix, SeparateLowRankMatrix, SparseMatrix
from ._base import Method
from ._choices import (
    keep_rank,
    kept_entries,
    kept_rank,
    prune,
    prune_errors,
    truncate,
    truncate_errors,
    truncate_separate,
    truncate_separate_errors,
)
from ._layer import Compressed, stored_center
from ._rounding import prune_rounding, rank_errors


class MatrixMethod(Method):
    """Compresses every expert, or its residual, by itself."""

    @abstractmethod
    def count(self, shape: LayerShape, keep: float) -> int:
        """Return the rank, rows or values that are kept of one matrix."""

    @abstractmethod
    def compress_matrix(self, matrix: torch.Tensor, keep: float, hint: Any = None) -> CompressedMatrix:
        """Compress one (p_I, D) matrix: an expert, or its residual; `hint` is what :meth:`hints` gave for it."""

    def exact_errors(self, matrix: torch.Tensor, keeps: Sequence[float], hint: Any = None) -> list[float]:
        """Squared Frobenius error that :meth:`compress_matrix` leaves at every keep, before anything is rounded.

        A method that can tell them all from one computation does so here.
        """
        restored = (self.compress_matrix(matrix, keep, hint).restore() for keep in keeps)
        return [float((matrix.double() - exact.double()).square().sum()) for exact in restored]

    def stored_errors(
        self, matrix: torch.Tensor, keeps: Sequence[float], layout: Layout, hint: Any = None
    ) -> list[float]:
        """Squared Frobenius error of what is stored at every keep; `layout` says how, and its counts do not matter."""
        errors = []
        for keep in keeps:
            stored = FORMATS[layout.format].pack([self.compress_matrix(matrix, keep, hint)], layout)
            errors.append(float((matrix.double() - stored.restore_aligned(0, matrix.dtype).double()).square().sum()))
        return errors

    def counts(self, shape: LayerShape, keep: float) -> tuple[int, ...]:
        """Return the same count for every expert."""
        return (self.count(shape, keep),) * shape.num_experts

    def compress_exact(
        self, stack: ExpertStack, keep: float, center: Center | None, statistics: Statistics | None
    ) -> Compressed:
        """Compress each expert, or its residual, when it is asked for."""
        pairs = zip(self._residuals(stack, center), self.hints(stack, center, statistics), strict=False)
        return Compressed(self.compress_matrix(matrix, keep, hint) for matrix, hint in pairs)

    def restore_one(
        self, stack: ExpertStack, keep: float, expert: int, *, center: Center | None, storage: Storage = DEFAULT_STORAGE
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the (p_I, D) matrix that is compressed of one expert, itself or its residual, and what is restored."""
        layout, center = self._prepared(stack, keep, self._used(center, None), storage)
        pairs = zip(self._residuals(stack, center), self.hints(stack, center, None), strict=False)
        matrix, hint = next(islice(pairs, expert, None))
        compressed = self.prepared_for(layout).compress_matrix(matrix, keep, hint)
        stored = FORMATS[layout.format].pack([compressed], layout)
        return matrix, stored.restore_aligned(0, matrix.dtype)

    def errors(
        self,
        stack: ExpertStack,
        keeps: Sequence[float],
        center: Center | None = None,
        *,
        statistics: Statistics | None = None,
        storage: Storage = DEFAULT_STORAGE,
    ) -> list[float]:
        """Return the mean of the experts' own errors at every keep."""
        for keep in keeps:
            KEEP.validate(keep)
        if not keeps:
            return []
        layout, center = self._prepared(stack, max(keeps), self._used(center, statistics), storage)
        pairs = zip(self._residuals(stack, center), self.hints(stack, center, statistics), strict=False)
        method = self.prepared_for(layout)

        def curve(pair: tuple[torch.Tensor, Any]) -> list[float]:
            if layout.encoding.lossless:
                return method.exact_errors(pair[0], keeps, pair[1])
            return method.stored_errors(pair[0], keeps, layout, pair[1])

        curves = map_parallel(curve, pairs)
        return [sum(errors) / stack.num_experts for errors in zip(*curves, strict=True)]

    def hints(self, stack: ExpertStack, center: Center | None, statistics: Statistics | None) -> Iterator[Any]:
        """Yield what the method knows of each expert beside its matrix: nothing, unless a method says otherwise."""
        return repeat(None)

    def _prepared(
        self, stack: ExpertStack, keep: float, center: Center | None, storage: Storage
    ) -> tuple[Layout, Center | None]:
        """How the layer will be stored, and the center, if one is used, with its values as they are stored."""
        has_center = center is not None and center.stored
        layout = self.layout(stack.shape, keep, storage=storage, has_center=has_center)
        layout = layout.model_copy(update={"blocks": weight_blocks(stack.blocks)})
        return layout, stored_center(center, layout)[0]


class PruningMethod(MatrixMethod):
    """Keeps the entries of largest magnitude (ResMoE, appendix A.3)."""

    matrix_type: ClassVar[type[CompressedMatrix]] = SparseMatrix

    def count(self, shape: LayerShape, keep: float) -> int:
        """Return how many entries are kept."""
        return kept_entries(shape.intermediate_size * shape.width, keep)

    def compress_matrix(self, matrix: torch.Tensor, keep: float, hint: torch.Tensor | None = None) -> SparseMatrix:
        """Keep the largest entries, one threshold for the whole matrix."""
        return prune(matrix, keep, hint)

    def exact_errors(
        self, matrix: torch.Tensor, keeps: Sequence[float], hint: torch.Tensor | None = None
    ) -> list[float]:
        """Errors at every keep, from one look at the entries."""
        return prune_errors(matrix, keeps, hint)

    def stored_errors(
        self, matrix: torch.Tensor, keeps: Sequence[float], layout: Layout, hint: torch.Tensor | None = None
    ) -> list[float]:
        """Add what rounding costs the entries that are kept."""
        counts = [kept_entries(matrix.numel(), keep) for keep in keeps]
        rounding = None if hint is not None else prune_rounding(matrix, counts, layout.encoding)
        if rounding is None:
            return super().stored_errors(matrix, keeps, layout, hint)
        return [exact + added for exact, added in zip(self.exact_errors(matrix, keeps), rounding, strict=True)]


class LowRankMethod(MatrixMethod):
    """Keeps the largest singular values (ResMoE, appendix A.4)."""

    matrix_type: ClassVar[type[CompressedMatrix]] = LowRankMatrix

    def count(self, shape: LayerShape, keep: float) -> int:
        """Return the rank that fits into the kept fraction."""
        return kept_rank(shape.intermediate_size, shape.width, keep)

    def compress_matrix(self, matrix: torch.Tensor, keep: float, hint: Any = None) -> CompressedMatrix:
        """Keep as many singular values as fit into the kept fraction."""
        return truncate(matrix, keep, hint)

    def exact_errors(self, matrix: torch.Tensor, keeps: Sequence[float], hint: Any = None) -> list[float]:
        """Errors at every keep, from one spectrum."""
        return truncate_errors(matrix, keeps, hint)

    def stored_errors(
        self, matrix: torch.Tensor, keeps: Sequence[float], layout: Layout, hint: Any = None
    ) -> list[float]:
        """Errors at every keep, from one decomposition whose factors are rounded once."""
        ranks = [kept_rank(matrix.shape[0], matrix.shape[1], keep) for keep in keeps]
        return rank_errors(matrix, keep_rank(matrix, max(ranks), hint), ranks, layout)


class SeparateLowRankMethod(MatrixMethod):
    """Keeps the largest singular values of each weight matrix by itself: fewer products for a token than joint factors.

    At the same kept fraction, joint factors of the design matrix leave a smaller error: they share their left one.
    """

    matrix_type: ClassVar[type[CompressedMatrix]] = SeparateLowRankMatrix

    def count(self, shape: LayerShape, keep: float) -> int:
        """Return the rank that fits into the kept fraction of every weight matrix."""
        return min(kept_rank(shape.intermediate_size, width, keep) for width in shape.widths)

    def compress_matrix(self, matrix: torch.Tensor, keep: float, hint: tuple[int, ...] = ()) -> SeparateLowRankMatrix:
        """Keep as many singular values of each weight matrix as fit into the kept fraction of it."""
        return truncate_separate(matrix, hint, keep)

    def exact_errors(self, matrix: torch.Tensor, keeps: Sequence[float], hint: tuple[int, ...] = ()) -> list[float]:
        """Errors at every keep, from one spectrum of each weight matrix."""
        return truncate_separate_errors(matrix, hint, keeps)

    def stored_errors(
        self, matrix: torch.Tensor, keeps: Sequence[float], layout: Layout, hint: tuple[int, ...] = ()
    ) -> list[float]:
        """Errors at every keep, from one decomposition of each weight matrix whose factors are rounded once."""
        ranks = [self.count(LayerShape(1, len(matrix), hint), keep) for keep in keeps]
        return rank_errors(matrix, truncate_separate(matrix, hint, max(keeps)), ranks, layout)

    def hints(self, stack: ExpertStack, center: Center | None, statistics: Statistics | None) -> Iterator[Any]:
        """Yield the columns of each weight matrix."""
        return repeat(stack.shape.widths)
