"""The Wasserstein barycenter, experts weighted by the share of the tokens that each expert receives."""

from __future__ import annotations

import torch

from ._barycenter import BarycenterMethod
from ._base import CENTERS
from ._statistics import Statistics, needed


@CENTERS.register("wasserstein-usage")
class UsageWasserstein(BarycenterMethod):
    """Find the barycenter in which an expert counts as often as tokens are routed to it.

    An option beyond the paper, after D2-MoE (arXiv 2502.17298).
    """

    name = "wasserstein-usage"
    needs_statistics = needs_only_usage = True

    def weights(self, statistics: Statistics | None) -> torch.Tensor:
        """Return the share of the tokens of each expert."""
        return needed(statistics, f"center {self.name!r}", only_usage=True).usage
