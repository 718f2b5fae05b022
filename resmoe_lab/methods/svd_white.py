"""Low-rank residuals, nearest on the inputs of calibration text: an option beyond the paper."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import repeat

from ..centers import Center, Statistics, needed
from ..experts import ExpertStack
from ._kinds import LowRankMethod
from ._registry import METHODS
from ._whitening import Whitening, whiten


@METHODS.register(
    "resmoe-svd-white",
    title="ResMoE (SVD, whitened)",
    reference="beyond the paper; arXiv 2502.17298",
    uses_center=True,
)
class WhitenedSVD(LowRankMethod):
    """Keep the largest singular values of every whitened residual."""

    needs_statistics = True

    def hints(self, stack: ExpertStack, center: Center | None, statistics: Statistics | None) -> Iterator[Whitening]:
        """Yield the layer's whitening: one for all its experts, since few tokens do not span each one's inputs."""
        moments = needed(statistics, f"method {self.name!r}").moments
        assert moments is not None
        return repeat(whiten(moments, stack.blocks, like=stack.weights))
