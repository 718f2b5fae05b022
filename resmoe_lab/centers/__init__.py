"""Ways to find a common expert, one file each."""

from __future__ import annotations

from typing import Any

from .._core.progress import Progress, silent
from ..experts import ExpertStack
from ._alignment import align_with as align_with
from ._alignment import merge_many as merge_many
from ._base import CENTERS as CENTERS
from ._base import Center as Center
from ._statistics import Statistics as Statistics
from ._statistics import needed as needed


def find_center(
    stack: ExpertStack,
    *,
    center: str = "wasserstein",
    seed: int = 0,
    progress: Progress = silent,
    statistics: Statistics | None = None,
    **options: Any,
) -> Center:
    """Find the common expert of a layer.

    Parameters
    ----------
    stack
        The experts of one layer, (N, p_I, D).
    center
        How: a name in the registry of centers, such as ``"wasserstein"`` or ``"average"``.
    seed
        For whatever is random.
    progress
        Told every step; raising from it cancels.
    statistics
        What calibration text tells about the layer; needed by the centers that weigh experts by it.
    options
        Options of that center, such as ``solver="alternating"``.

    Raises
    ------
    UsageError
        If there is no such center, or it needs statistics and has none.
    WeightError
        If a weight is not finite.
    """
    return CENTERS[center](stack, seed=seed, progress=progress, statistics=statistics, **options)
