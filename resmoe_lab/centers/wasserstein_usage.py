"""The Wasserstein barycenter, experts weighed by the share of the tokens that each expert receives."""

from __future__ import annotations

from typing import Any

from .._core.progress import Progress, silent
from ..experts import ExpertStack
from ._base import CENTERS, Center
from ._statistics import Statistics, needed
from ._weighted import weighted_barycenter


@CENTERS.register("wasserstein-usage")
def wasserstein_usage(
    stack: ExpertStack,
    *,
    seed: int = 0,
    progress: Progress = silent,
    statistics: Statistics | None = None,
    **options: Any,
) -> Center:
    """Find the barycenter in which an expert counts as often as calibration text is routed to it.

    An option beyond the paper, after D2-MoE (arXiv 2502.17298).
    """
    weights = needed(statistics, "center 'wasserstein-usage'").usage
    return weighted_barycenter(stack, weights, name="wasserstein-usage", seed=seed, progress=progress, **options)
