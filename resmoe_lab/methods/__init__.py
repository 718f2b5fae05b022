"""Compression methods, one file each."""

from __future__ import annotations

from .._core.deprecation import renamed_arguments, warn_renamed
from ..centers import Center, Statistics
from ..experts import ExpertStack
from ..store.encodings import Encoding
from ..store.layout import DEFAULT_STORAGE, Storage
from ..store.ledger import Ledger
from ._base import Method as Method
from ._kinds import MatrixMethod as MatrixMethod
from ._layer import CompressedLayer as CompressedLayer
from ._ledgers import forecast_ledger as forecast_ledger
from ._ledgers import layout_ledger as layout_ledger
from ._ledgers import storage_ledger as storage_ledger
from ._registry import METHODS as METHODS
from ._registry import MethodEntry as MethodEntry


@renamed_arguments(common="center")
def compress_layer(
    stack: ExpertStack,
    *,
    method: str = "resmoe-up",
    keep: float = 0.25,
    center: Center | None = None,
    statistics: Statistics | None = None,
    storage: Storage = DEFAULT_STORAGE,
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
        The layer's center, for the methods that store residuals.
    statistics
        What calibration text tells about the layer, for the methods that use it.
    storage
        How values are stored: 16 bits in the smallest format if not given.
    seed
        For whatever is random in the method.

    Returns
    -------
    CompressedLayer
        The experts as they are stored, and the center.

    Raises
    ------
    UsageError
        If there is no such method, `keep` is out of range, the method lacks a center or statistics, or its matrices do
        not fit into the format.

    Examples
    --------
    >>> import resmoe_lab as rl
    >>> stack = rl.load_stack(rl.open_checkpoint("mixtral-tiny"), layer=0)
    >>> layer = rl.compress_layer(stack, method="resmoe-up", keep=0.25, center=rl.find_center(stack))
    >>> layer.restore().shape == stack.weights.shape
    True
    >>> round(layer.approximation_error(stack) / stack.mean_squared_norm(), 2)
    0.06
    """
    return METHODS[method](seed=seed).compress(stack, keep, center, statistics=statistics, storage=storage)


def weigh(layer: CompressedLayer, *, value_bytes: int = 2) -> Ledger:
    """Return the bytes of a compressed layer at 16 or 32 bit: the old name of :func:`storage_ledger`."""
    warn_renamed("weigh", "storage_ledger")
    names = {2: "bf16", 4: "fp32"}
    storage = Storage(encoding=Encoding.parse(names[value_bytes]))
    center = None if layer.layout.center is None else storage.center_encoding
    layout = layer.layout.model_copy(update={"encoding": storage.encoding, "center": center})
    outputs = layer.center.outputs if layer.center is not None else None
    return layout_ledger(layout, layer.shape, outputs=0 if outputs is None else outputs.numel())
