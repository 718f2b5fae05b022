"""Ways to find a common expert, one file each."""

from __future__ import annotations

from typing import Any

from .._core.progress import Progress, silent
from ..experts import ExpertStack
from ._base import CENTERS as CENTERS
from ._base import CommonExpert as CommonExpert


def find_center(
    stack: ExpertStack, *, center: str = "wasserstein", seed: int = 0, progress: Progress = silent, **options: Any
) -> CommonExpert:
    """Find the common expert of a layer.

    Parameters
    ----------
    stack
        The experts of one layer, (N, p_I, D).
    center
        How: a name in the registry of centers, ``"wasserstein"`` or ``"average"``.
    seed
        For whatever is random.
    progress
        Told every step; raising from it cancels.
    options
        Options of that center, such as ``solver="alternating"``.

    Raises
    ------
    UsageError
        If there is no such center.
    WeightError
        If a weight is not finite.
    """
    return CENTERS[center](stack, seed=seed, progress=progress, **options)
