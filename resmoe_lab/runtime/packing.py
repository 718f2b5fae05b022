"""From a compressed layer to the module that is stored and run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from .._core.errors import UsageError
from ..experts import Family
from ..methods import CompressedLayer
from ..store.encodings import Encoded
from ..store.formats import FORMATS
from ..store.layout import Layout
from ..store.ledger import Entry, Ledger
from .experts import ResMoEExperts


def pack(layer: CompressedLayer, *, activation: Callable[[Tensor], Tensor], **options: Any) -> ResMoEExperts:
    """Make the module that runs a compressed layer; its tensors are those of the layer.

    Parameters
    ----------
    layer
        What a method made of the experts.
    activation
        The experts' activation function.
    options
        Passed on to :class:`ResMoEExperts`.

    Raises
    ------
    UsageError
        If the center permutes outputs.
    """
    if layer.center is not None and layer.center.outputs is not None:
        raise UsageError(f"center {layer.center_name!r} permutes outputs too, which no packed form holds: restore it")
    center = Encoded.join(layer.center_blocks) if layer.center_blocks else None
    return ResMoEExperts(center, layer.experts, activation=activation, **options)


def packed_ledger(layout: Layout, *, original_bytes: int) -> Ledger:
    """Return the bytes of a packed layer's tensors, from its layout alone.

    Parameters
    ----------
    layout
        How it is stored.
    original_bytes
        What the ledger compares with.

    Notes
    -----
    Which group an expert belongs to, and every count, stand in the checkpoint's config.
    """
    entries = FORMATS[layout.format].entries(layout)
    if layout.center is not None:
        entries.append(Entry("center", "dense", layout.center_bytes))
    return Ledger(tuple(entries), original_bytes)


def packed_prefix(family: Family, layer: int) -> str:
    """Return what the names of a packed layer's tensors begin with; Switch's experts stand behind an adapter."""
    inner = "experts" if family.module_parts[0].fused else "experts.experts"
    return f"{family.module_name(layer)}.{inner}"
