"""Compression methods, one file each."""

from __future__ import annotations

from ..centers import Center, Statistics
from ..experts import ExpertStack
from ._base import METHODS as METHODS
from ._base import CompressedLayer as CompressedLayer
from ._base import Method as Method
from ._kinds import MatrixMethod as MatrixMethod
from ._pieces import Clusters as Clusters
from ._pieces import Dense as Dense
from ._pieces import LowRank as LowRank
from ._pieces import Neurons as Neurons
from ._pieces import Piece as Piece
from ._pieces import SeparateLowRank as SeparateLowRank
from ._pieces import Sparse as Sparse
from ._pieces import piece_tensors as piece_tensors


def compress_layer(
    stack: ExpertStack,
    *,
    method: str = "resmoe-up",
    keep: float = 0.25,
    center: Center | None = None,
    statistics: Statistics | None = None,
    seed: int = 0,
) -> CompressedLayer:
    """Compress the experts of one layer.

    Parameters
    ----------
    stack
        The experts.
    method
        A name in the registry of methods.
    keep
        Kept fraction of the parameters per expert, in (0, 1].
    center
        The layer's common expert, for the methods that store residuals.
    statistics
        What calibration text tells about the layer, for the methods that use it.
    seed
        For whatever is random in the method.

    Raises
    ------
    UsageError
        If there is no such method, `keep` is out of range, or the method lacks a center or statistics.
    """
    return METHODS[method](seed=seed).compress(stack, keep, center, statistics=statistics)
