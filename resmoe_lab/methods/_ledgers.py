"""Bytes of compressed layers: of what is stored, and of what would be."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from ..experts import LayerShape
from ..store.formats import FORMATS
from ..store.layout import DEFAULT_STORAGE, Layout, Storage
from ..store.ledger import INDEX_BYTES, Entry, Ledger
from ._layer import CompressedLayer

if TYPE_CHECKING:
    from ._base import Method


def storage_ledger(layer: CompressedLayer) -> Ledger:
    """Return the bytes of a compressed layer, as it is stored.

    Parameters
    ----------
    layer
        From :func:`~resmoe_lab.compress_layer`.

    Returns
    -------
    Ledger
        Bytes of each thing that is stored: values, indices or masks, scales, the center.

    Notes
    -----
    Permutations are not stored: a restored expert stays in the order of the center's rows and computes the same.

    Examples
    --------
    >>> import resmoe_lab as rl
    >>> stack = rl.load_stack(rl.open_checkpoint("mixtral-tiny"), layer=0)
    >>> ledger = rl.storage_ledger(rl.compress_layer(stack, method="up", keep=0.25))
    >>> ledger.original_bytes, ledger.paper_bytes, ledger.true_bytes
    (2752512, 688128, 860160)
    """
    outputs = layer.center.outputs if layer.center is not None else None
    return layout_ledger(layer.layout, layer.shape, outputs=0 if outputs is None else outputs.numel())


def forecast_ledger(
    method: Method,
    shape: LayerShape,
    *,
    keep: float,
    center: bool | None = None,
    storage: Storage = DEFAULT_STORAGE,
) -> Ledger:
    """Return the bytes of what a method would make of a layer, from its sizes alone.

    Parameters
    ----------
    method
        The method.
    shape
        Sizes of the layer.
    keep
        Kept fraction of the parameters per expert.
    center
        Whether a center is stored; by default, whether the method uses one (center ``"none"`` stores none).
    storage
        How values are stored.
    """
    layout = method.layout(shape, keep, storage=storage, has_center=center)
    return layout_ledger(layout, shape)


def layout_ledger(layout: Layout, shape: LayerShape, *, outputs: int = 0) -> Ledger:
    """Return the bytes of a layer that is stored so.

    Parameters
    ----------
    layout
        How it is stored.
    shape
        Sizes of the original layer.
    outputs
        How many numbers the orders of the experts' outputs have, where the center permutes those too.
    """
    entries = FORMATS[layout.format].entries(layout)
    if layout.center is not None:
        entries.append(Entry("center", "dense", layout.center_bytes))
    width = max(2, (layout.center or layout.encoding.beside).bits // 8)
    if outputs:
        entries.append(Entry("outputs", "int16", outputs * INDEX_BYTES))
    if layout.num_stored < shape.num_experts:
        entries.append(Entry("map", "int16", shape.num_experts * INDEX_BYTES))
    return Ledger(tuple(entries), math.prod(shape.sizes) * width)
