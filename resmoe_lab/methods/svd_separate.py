"""Low-rank factors of each weight matrix by itself: an option beyond the paper."""

from __future__ import annotations

from ._base import METHODS
from ._kinds import SeparateLowRankMethod


@METHODS.register("svd-separate")
class SVDSeparate(SeparateLowRankMethod):
    """Store low-rank factors of every weight matrix of every expert."""

    name = "svd-separate"
    title = "SVD (separate)"
    reference = "beyond the paper"
