"""The Wasserstein barycenter, experts weighted by how much the loss depends on each expert."""

from __future__ import annotations

import torch

from .._core.errors import UsageError
from ._barycenter import BarycenterMethod
from ._base import CENTERS
from ._statistics import Statistics, needed


@CENTERS.register("wasserstein-fisher")
class FisherWasserstein(BarycenterMethod):
    """Find the barycenter in which an expert counts by its empirical Fisher information, a mean over its weights.

    An option beyond the paper, after D2-MoE (arXiv 2502.17298).
    """

    name = "wasserstein-fisher"
    needs_statistics = needs_fisher = True

    def weights(self, statistics: Statistics | None) -> torch.Tensor:
        """Return the Fisher information of each expert.

        Raises
        ------
        UsageError
            If there are no statistics, or none of that kind.
        """
        who = f"center {self.name!r}"
        fisher = needed(statistics, who).fisher
        if fisher is None:
            raise UsageError(f"{who} needs Fisher information, found statistics without: calibrate with fisher=True")
        return fisher
