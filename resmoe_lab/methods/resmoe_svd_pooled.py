"""ResMoE with one pool of singular values for all residuals of a layer: an option beyond the paper."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from .._core.params import KEEP
from ..centers import Center, Statistics
from ..experts import ExpertStack
from ._base import METHODS, CompressedLayer
from ._choices import keep_rank, kept_rank
from ._kinds import LowRankMethod
from ._spectra import squared_spectrum
from ._sums import smallest_sums


@METHODS.register("resmoe-svd-pooled")
class ResMoESVDPooled(LowRankMethod):
    """Store the center expert and the largest singular values of all residuals together; a rank may be zero."""

    name = "resmoe-svd-pooled"
    title = "ResMoE (SVD, pooled)"
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
        """Keep as many singular values in all as :class:`LowRankMethod` would, wherever in the layer they are."""
        total = self._total(stack, keep)
        spectra = torch.stack([squared_spectrum(matrix) for matrix in self.matrices(stack, center)])
        kept = torch.zeros(spectra.numel(), dtype=torch.bool, device=spectra.device)
        kept[spectra.flatten().argsort(descending=True, stable=True)[:total]] = True
        ranks = kept.view_as(spectra).sum(1).tolist()
        pairs = zip(self.matrices(stack, center), ranks, strict=True)
        return self._layer(keep, [keep_rank(matrix, rank) for matrix, rank in pairs], center)

    def errors(
        self,
        stack: ExpertStack,
        keeps: Sequence[float],
        center: Center | None = None,
        *,
        statistics: Statistics | None = None,
    ) -> list[float]:
        """Errors at every keep, from one spectrum an expert."""
        totals = [self._total(stack, keep) for keep in keeps]
        pool = torch.cat([squared_spectrum(matrix) for matrix in self.matrices(stack, center)])
        dropped = smallest_sums(pool, [max(0, len(pool) - total) for total in totals])
        return [error / stack.num_experts for error in dropped]

    def _total(self, stack: ExpertStack, keep: float) -> int:
        return stack.num_experts * kept_rank(stack.intermediate_size, stack.width, KEEP.validate(keep))
