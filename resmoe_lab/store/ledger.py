"""The ledger: what a compressed layer weighs, as really stored and as the paper counts."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from ..experts import LayerShape
from ..methods import (
    Clusters,
    CompressedLayer,
    Dense,
    LowRank,
    Method,
    Neurons,
    Piece,
    SeparateLowRank,
    Sparse,
    piece_tensors,
)

#: Bytes of one value at 16 bit, and of one stored index.
VALUE_BYTES = INDEX_BYTES = 2


@dataclass(frozen=True)
class Entry:
    """One line of a ledger.

    Parameters
    ----------
    item
        ``"values"``, ``"scales"``, ``"indices"`` or ``"factors"`` of the pieces, the ``"center"``, the ``"map"``
        from experts to groups, or the order of the ``"outputs"`` (see :class:`~resmoe_lab.centers.CommonExpert`).
    format
        How it is stored: ``"dense"``, ``"int16"``, or the name of a packed form.
    nbytes
        Bytes, over all experts of the layer.
    """

    item: str
    format: str
    nbytes: int


@dataclass(frozen=True)
class Ledger:
    """Bytes of the experts of one layer.

    Parameters
    ----------
    entries
        What is stored.
    original_bytes
        Bytes of the uncompressed experts in the same value width.
    """

    entries: tuple[Entry, ...]
    original_bytes: int

    @property
    def true_bytes(self) -> int:
        """All bytes: values, indices or masks, the center, and maps."""
        return sum(entry.nbytes for entry in self.entries)

    @property
    def paper_bytes(self) -> int:
        """Bytes as appendix A.3 counts: the kept parameters alone, without indices and without the center."""
        return sum(entry.nbytes for entry in self.entries if entry.item in ("values", "factors"))

    @property
    def format(self) -> str:
        """Name of the format of the pieces."""
        return self.entries[0].format


def weigh(layer: CompressedLayer, *, value_bytes: int = VALUE_BYTES) -> Ledger:
    """Weigh a compressed layer.

    Parameters
    ----------
    layer
        The compressed experts.
    value_bytes
        Bytes of one stored value: 2 for 16 bit, 4 for 32 bit.

    Notes
    -----
    Permutations are not stored: a restored expert stays in the order of the center's rows and computes the same.
    """
    outputs = layer.center.outputs if layer.center is not None else None
    orders = 0 if outputs is None else outputs.numel()
    shape = _Shape(layer.num_experts, *layer.pieces[0].shape)
    return _weigh(layer.pieces, shape, center=layer.center is not None, orders=orders, value_bytes=value_bytes)


def forecast(
    method: Method,
    shape: LayerShape,
    *,
    keep: float,
    center: bool | None = None,
    value_bytes: int = VALUE_BYTES,
) -> Ledger:
    """Weigh what a method would make of a layer, from its shape alone.

    Parameters
    ----------
    method
        The method.
    shape
        Sizes of the layer.
    keep
        Kept fraction of the parameters per expert.
    center
        Whether a common expert is stored; by default, whether the method uses one (center ``"none"`` stores none).
    value_bytes
        Bytes of one stored value.
    """
    pieces = method.outline(shape, keep)
    center = method.uses_center if center is None else center
    return _weigh(pieces, _Shape(*shape.sizes), center=center, orders=0, value_bytes=value_bytes)


class _Shape(NamedTuple):
    num_experts: int
    rows: int
    columns: int


def _weigh(pieces: Sequence[Piece], shape: _Shape, *, center: bool, orders: int, value_bytes: int) -> Ledger:
    entries = _SCALES[type(pieces[0])](pieces, value_bytes)
    if center:
        entries.append(Entry("center", "dense", shape.rows * shape.columns * value_bytes))
    if orders:
        entries.append(Entry("outputs", "int16", orders * INDEX_BYTES))
    if len(pieces) < shape.num_experts:
        entries.append(Entry("map", "int16", shape.num_experts * INDEX_BYTES))
    return Ledger(tuple(entries), math.prod(shape) * value_bytes)


def _weigh_sparse(pieces: Sequence[Sparse], value_bytes: int) -> list[Entry]:
    """Values, and whichever is smaller for the layer: one bit an entry, or 16-bit columns with 32-bit row starts."""
    rows, columns = pieces[0].shape
    values = sum(piece.values.numel() for piece in pieces)
    bitmask = len(pieces) * rows * -(-columns // 8)
    csr16 = INDEX_BYTES * values + 4 * len(pieces) * (rows + 1) if columns < 2**16 else bitmask + 1
    form, index_bytes = ("bitmask", bitmask) if bitmask <= csr16 else ("csr16", csr16)
    return [Entry("values", form, values * value_bytes), Entry("indices", form, index_bytes)]


def _weigh_low_rank(pieces: Sequence[LowRank], value_bytes: int) -> list[Entry]:
    numbers = sum(piece.left.numel() + piece.right.numel() for piece in pieces)
    return [Entry("factors", "lowrank-joint", numbers * value_bytes)]


def _weigh_separate(pieces: Sequence[SeparateLowRank], value_bytes: int) -> list[Entry]:
    numbers = sum(tensor.numel() for piece in pieces for tensor in piece_tensors(piece))
    return [Entry("factors", "lowrank-separate", numbers * value_bytes)]


def _weigh_dense(pieces: Sequence[Dense], value_bytes: int) -> list[Entry]:
    return [Entry("values", "dense", sum(piece.matrix.numel() for piece in pieces) * value_bytes)]


def _weigh_neurons(pieces: Sequence[Neurons], value_bytes: int) -> list[Entry]:
    return [Entry("values", "dense", sum(piece.rows.numel() for piece in pieces) * value_bytes)]


def _weigh_clusters(pieces: Sequence[Clusters], value_bytes: int) -> list[Entry]:
    """The centroids alone: the sizes of the clusters are multiplied into W2."""
    return [Entry("values", "dense", sum(piece.centroids.numel() for piece in pieces) * value_bytes)]


_SCALES: dict[type, Callable[..., list[Entry]]] = {
    Sparse: _weigh_sparse,
    LowRank: _weigh_low_rank,
    SeparateLowRank: _weigh_separate,
    Dense: _weigh_dense,
    Neurons: _weigh_neurons,
    Clusters: _weigh_clusters,
}
