"""The ledger of a whole model, and the kept fraction that fits into a given number of bytes."""

from __future__ import annotations

import math
from collections.abc import Mapping

from .._core.errors import UsageError
from ..checkpoint import Checkpoint
from ..experts import LayerShape, family_of
from ..methods import Method, forecast_ledger
from ..store.layout import DEFAULT_STORAGE, Storage
from ..store.ledger import Entry, Ledger

#: Halvings of the interval in which the kept fraction is looked for.
_HALVINGS = 50


def match_bytes(
    method: Method,
    budget: float,
    shape: LayerShape,
    *,
    center: bool | None = None,
    storage: Storage = DEFAULT_STORAGE,
) -> float:
    """Find the largest kept fraction at which a method's layer is not larger than a budget.

    Parameters
    ----------
    method
        The method.
    budget
        Bytes of the compressed experts of one layer, everything that is really stored included.
    shape
        Sizes of the layer.
    center, storage
        As for :func:`~resmoe_lab.methods.forecast_ledger`.

    Returns
    -------
    float
        In (0, 1]. Bytes grow in steps (a rank, a neuron, a whole expert), so they may stay below the budget.

    Raises
    ------
    UsageError
        If the method does not fit into the budget at all.
    """
    bytes_of_counts = dict[tuple[int, ...], int]()

    def stored(keep: float) -> int:
        """Bytes at a kept fraction, 0 where so little cannot be kept (not even rank 1)."""
        try:
            counts = method.counts(shape, keep)
        except UsageError:
            return 0
        if counts not in bytes_of_counts:
            bytes_of_counts[counts] = forecast_ledger(
                method, shape, keep=keep, center=center, storage=storage
            ).true_bytes
        return bytes_of_counts[counts]

    if 0 < stored(1.0) <= budget:
        return 1.0
    low, high = 0.0, 1.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if stored(middle) <= budget else (low, middle)
    if low == 0 or stored(low) == 0:
        raise UsageError(
            f"a budget of {budget:,.0f} bytes a layer is too small for method {method.name!r}, expected at least "
            f"{stored(high):,}: raise it, or choose a method that stores less"
        )
    return low


def model_ledger(checkpoint: Checkpoint, layers: Mapping[int, Ledger], *, value_bytes: int = 2) -> Ledger:
    """Return the bytes of a whole model when some of its layers are compressed.

    Parameters
    ----------
    checkpoint
        The model.
    layers
        The ledger of every compressed layer, in the same value width.
    value_bytes
        Bytes of one stored value of everything else.

    Returns
    -------
    Ledger
        The items of the compressed layers, then ``"router"``, ``"untouched experts"`` and ``"other"`` (attention,
        shared experts, embeddings, norms), in the same width.
    """
    family = family_of(checkpoint)
    count = family.shape(checkpoint.config).num_experts
    sizes = {name: value_bytes * math.prod(info.shape) for name, info in checkpoint.tensors.items()}
    total = sum(sizes.values())
    routers = sum(sizes.pop(family.router_key(layer)) for layer in family.layers(checkpoint))
    experts = {
        layer: sum(sizes.pop(key) for key in family.expert_keys(layer, count)) for layer in family.layers(checkpoint)
    }
    merged: dict[tuple[str, str], int] = {}
    for ledger in layers.values():
        for entry in ledger.entries:
            key = (entry.item, entry.format)
            merged[key] = merged.get(key, 0) + entry.nbytes
    untouched = sum(size for layer, size in experts.items() if layer not in layers)
    rest = {"router": routers, "untouched experts": untouched, "other": sum(sizes.values())}
    entries = [Entry(*key, nbytes) for key, nbytes in merged.items()]
    return Ledger((*entries, *(Entry(item, "dense", size) for item, size in rest.items())), total)
