"""ResMoE with one pruning threshold for all residuals of a layer: an option beyond the paper."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from .._core.params import KEEP
from ..centers import Center, Statistics
from ..experts import ExpertStack
from ._base import METHODS, CompressedLayer
from ._choices import kept_entries, largest
from ._kinds import PruningMethod
from ._pieces import Sparse
from ._sums import smallest_sums


@METHODS.register("resmoe-up-pooled")
class ResMoEUPPooled(PruningMethod):
    """Store the center expert and the largest entries of all residuals together, the layer's budget in one pool.

    The residuals of the whole layer are in memory at once.
    """

    name = "resmoe-up-pooled"
    title = "ResMoE (UP, pooled)"
    reference = "beyond the paper"
    uses_center = True

    def compress(
        self,
        stack: ExpertStack,
        keep: float,
        center: Center | None = None,
        *,
        statistics: Statistics | None = None,
    ) -> CompressedLayer:
        """Keep as many entries in all as :class:`PruningMethod` would, wherever in the layer they are."""
        KEEP.validate(keep)
        pool = torch.stack(list(self.matrices(stack, center)))
        total = stack.num_experts * kept_entries(pool[0].numel(), keep)
        masks = largest(pool.abs(), total)
        return self._layer(keep, [Sparse.where(*pair) for pair in zip(masks, pool, strict=True)], center)

    def errors(
        self,
        stack: ExpertStack,
        keeps: Sequence[float],
        center: Center | None = None,
        *,
        statistics: Statistics | None = None,
    ) -> list[float]:
        """Errors at every keep, from one look at the layer."""
        totals = [stack.num_experts * kept_entries(stack.weights[0].numel(), KEEP.validate(keep)) for keep in keeps]
        pool = torch.cat([matrix.flatten().square() for matrix in self.matrices(stack, center)])
        dropped = smallest_sums(pool, [len(pool) - total for total in totals])
        return [error / stack.num_experts for error in dropped]
