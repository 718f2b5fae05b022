"""Residuals pruned by what calibration text multiplies them with: an option beyond the paper."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from ..centers import Center, Statistics, needed
from ..experts import ExpertStack
from ._awareness import importances
from ._kinds import PruningMethod
from ._registry import METHODS


@METHODS.register(
    "resmoe-up-aware",
    title="ResMoE (UP, activation-aware)",
    reference="beyond the paper; arXiv 2502.17298, arXiv 2306.11695",
    uses_center=True,
)
class ActivationAwarePruning(PruningMethod):
    """Keep the entries of every residual whose use times magnitude is largest."""

    needs_statistics = True

    def hints(self, stack: ExpertStack, center: Center | None, statistics: Statistics | None) -> Iterator[torch.Tensor]:
        """Yield the importance of every weight."""
        return importances(stack, center, needed(statistics, f"method {self.name!r}"))
