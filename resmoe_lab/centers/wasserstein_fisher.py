"""The Wasserstein barycenter, experts weighed by how much the loss depends on each expert."""

from __future__ import annotations

from typing import Any

from .._core.errors import UsageError
from .._core.progress import Progress, silent
from ..experts import ExpertStack
from ._base import CENTERS, Center
from ._statistics import Statistics, needed
from ._weighted import weighted_barycenter


@CENTERS.register("wasserstein-fisher")
def wasserstein_fisher(
    stack: ExpertStack,
    *,
    seed: int = 0,
    progress: Progress = silent,
    statistics: Statistics | None = None,
    **options: Any,
) -> Center:
    """Find the barycenter in which an expert counts by its empirical Fisher information, a mean over its weights.

    An option beyond the paper, after D2-MoE (arXiv 2502.17298).

    Raises
    ------
    UsageError
        If the statistics have no Fisher information.
    """
    who = "center 'wasserstein-fisher'"
    weights = needed(statistics, who).fisher
    if weights is None:
        raise UsageError(f"{who} needs Fisher information, found statistics without: calibrate with fisher=True")
    return weighted_barycenter(stack, weights, name="wasserstein-fisher", seed=seed, progress=progress, **options)
