"""One pruning threshold for all residuals of a layer: an option beyond the paper."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from .._core.params import KEEP
from ..centers import Center, Statistics
from ..experts import ExpertStack
from ..store.layout import DEFAULT_STORAGE, Storage
from ..store.matrices import SparseMatrix
from ._base import Method
from ._choices import kept_entries, largest
from ._kinds import PruningMethod
from ._layer import Compressed
from ._registry import METHODS
from ._rounding import prune_rounding
from ._sums import smallest_sums


@METHODS.register("resmoe-up-pooled", title="ResMoE (UP, pooled)", reference="beyond the paper", uses_center=True)
class PooledPruning(PruningMethod):
    """Keep the largest entries of all residuals together, the layer's budget in one pool.

    The magnitudes of all residuals are in memory at once.
    """

    pools = True

    def compress_exact(
        self, stack: ExpertStack, keep: float, center: Center | None, statistics: Statistics | None
    ) -> Compressed:
        """Keep as many entries in all as :class:`PruningMethod` would, wherever in the layer they are."""
        magnitudes = torch.empty_like(stack.weights)
        for sizes, residual in zip(magnitudes, self._residuals(stack, center), strict=True):
            torch.abs(residual, out=sizes)
        masks = largest(magnitudes, stack.num_experts * kept_entries(stack.weights[0].numel(), keep))
        pairs = zip(masks, self._residuals(stack, center), strict=True)
        return Compressed(SparseMatrix.where(*pair) for pair in pairs)

    def errors(
        self,
        stack: ExpertStack,
        keeps: Sequence[float],
        center: Center | None = None,
        *,
        statistics: Statistics | None = None,
        storage: Storage = DEFAULT_STORAGE,
    ) -> list[float]:
        """Errors at every keep, from one look at the layer."""
        totals = [stack.num_experts * kept_entries(stack.weights[0].numel(), KEEP.validate(keep)) for keep in keeps]
        if not totals:
            return []
        layout, used = self._prepared(stack, max(keeps), self._used(center, statistics), storage)
        pool = torch.cat(list(self._residuals(stack, used)))
        squares = pool.flatten().square()
        dropped = smallest_sums(squares, [len(squares) - total for total in totals])
        added = [0.0] * len(keeps)
        if not layout.encoding.lossless:
            rounding = prune_rounding(pool, totals, layout.encoding)
            if rounding is None:
                return Method.errors(self, stack, keeps, center, statistics=statistics, storage=storage)
            added = rounding
        return [(error + rounding) / stack.num_experts for error, rounding in zip(dropped, added, strict=True)]
