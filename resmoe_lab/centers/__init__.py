"""Ways to find the center of a layer's experts, one file each."""

from __future__ import annotations

from typing import Any

from .._core.deprecation import deprecated_names
from .._core.progress import Progress, silent
from ..experts import ExpertStack
from ._alignment import align_with as align_with
from ._alignment import merge_many as merge_many
from ._barycenter import BarycenterMethod as BarycenterMethod
from ._base import CENTERS as CENTERS
from ._base import Center as Center
from ._base import CenterMethod as CenterMethod
from ._base import center_method as center_method
from ._statistics import Statistics as Statistics
from ._statistics import lacking as lacking
from ._statistics import needed as needed

#: The center of the paper, and none at all.
DEFAULT_CENTER, NO_CENTER = "wasserstein", "none"

__getattr__ = deprecated_names(__name__, {"CommonExpert": "Center"})


def find_center(
    stack: ExpertStack,
    *,
    center: str = DEFAULT_CENTER,
    seed: int = 0,
    progress: Progress = silent,
    statistics: Statistics | None = None,
    **options: Any,
) -> Center:
    """Find the center of a layer.

    Parameters
    ----------
    stack
        The experts of one layer, (N, p_I, D).
    center
        How: a name in the registry of centers, such as ``"wasserstein"`` or ``"average"``.
    seed
        For whatever is random.
    progress
        Called with every step; raising from it cancels.
    statistics
        What calibration text tells about the layer; needed by the centers that weight experts by it.
    options
        Options of that center, such as ``solver="alternating"``.

    Returns
    -------
    Center
        Its (p_I, D) matrix, the permutations of the experts onto it, its objective and its certificate.

    Raises
    ------
    UsageError
        If there is no such center, it has no such option, or it needs statistics and has none.
    WeightError
        If a weight is not finite.

    Examples
    --------
    >>> import resmoe_lab as rl
    >>> stack = rl.load_stack(rl.open_checkpoint("mixtral-tiny"), layer=0)
    >>> center = rl.find_center(stack)
    >>> center.matrix.shape == stack.weights[0].shape
    True
    >>> round(center.certificate.gap, 2)
    0.0
    """
    return center_method(center, seed=seed, options=options).find(stack, statistics=statistics, progress=progress)
