"""One pool of singular values for all residuals of a layer: an option beyond the paper."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from .._core.params import KEEP
from ..centers import Center, Statistics
from ..experts import ExpertStack
from ..store.layout import DEFAULT_STORAGE, Storage
from ._choices import keep_rank, kept_rank
from ._kinds import LowRankMethod
from ._layer import Compressed
from ._registry import METHODS
from ._rounding import rank_errors
from ._spectra import squared_spectrum
from ._sums import smallest_sums


@METHODS.register("resmoe-svd-pooled", title="ResMoE (SVD, pooled)", reference="beyond the paper", uses_center=True)
class PooledSVD(LowRankMethod):
    """Keep the largest singular values of all residuals together; a rank may be zero."""

    def compress_exact(
        self, stack: ExpertStack, keep: float, center: Center | None, statistics: Statistics | None
    ) -> Compressed:
        """Keep as many singular values in all as :class:`LowRankMethod` would, wherever in the layer they are."""
        [ranks] = self._ranks(self._spectra(stack, center), [self._total(stack, keep)])
        pairs = zip(self._residuals(stack, center), ranks, strict=True)
        return Compressed(keep_rank(matrix, rank) for matrix, rank in pairs)

    def errors(
        self,
        stack: ExpertStack,
        keeps: Sequence[float],
        center: Center | None = None,
        *,
        statistics: Statistics | None = None,
        storage: Storage = DEFAULT_STORAGE,
    ) -> list[float]:
        """Errors at every keep, from one decomposition an expert."""
        totals = [self._total(stack, keep) for keep in keeps]
        if not totals:
            return []
        layout, center = self._prepared(stack, max(keeps), self._used(center, statistics), storage)
        spectra = self._spectra(stack, center)
        if layout.encoding.lossless:
            dropped = smallest_sums(spectra.flatten(), [max(0, spectra.numel() - total) for total in totals])
            return [error / stack.num_experts for error in dropped]
        errors = [0.0] * len(keeps)
        by_expert = zip(*self._ranks(spectra, totals), strict=True)
        for matrix, ranks in zip(self._residuals(stack, center), by_expert, strict=True):
            curve = rank_errors(matrix, keep_rank(matrix, max(ranks)), ranks, layout)
            errors = [total + error for total, error in zip(errors, curve, strict=True)]
        return [error / stack.num_experts for error in errors]

    def _spectra(self, stack: ExpertStack, center: Center | None) -> torch.Tensor:
        """(N, n) squared singular values of every residual, smallest first."""
        return torch.stack([squared_spectrum(matrix) for matrix in self._residuals(stack, center)])

    @staticmethod
    def _ranks(spectra: torch.Tensor, totals: Sequence[int]) -> list[list[int]]:
        """The ranks of all experts, for every number of singular values that are kept in all."""
        order = spectra.flatten().argsort(descending=True, stable=True)
        ranks = []
        for total in totals:
            kept = torch.zeros(spectra.numel(), dtype=torch.bool, device=spectra.device)
            kept[order[:total]] = True
            ranks.append(kept.view_as(spectra).sum(1).tolist())
        return ranks

    def _total(self, stack: ExpertStack, keep: float) -> int:
        return stack.num_experts * kept_rank(stack.intermediate_size, stack.width, KEEP.validate(keep))
