"""The ledger: what a compressed layer weighs, as really stored and as the paper counts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..methods import CompressedLayer, LowRank, Method, Piece, Sparse

#: Bytes of one value at 16 bit.
VALUE_BYTES = 2


@dataclass(frozen=True)
class Entry:
    """One line of a ledger.

    Parameters
    ----------
    item
        ``"center"``, ``"values"``, ``"indices"`` or ``"factors"``.
    format
        How it is stored: ``"dense"``, ``"bitmask"``, ``"csr16"`` or ``"lowrank-joint"``.
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
        """All bytes: values, indices or masks, and the center."""
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
    return _weigh(layer.pieces, layer.common is not None, value_bytes)


def forecast(
    method: Method, *, num_experts: int, rows: int, columns: int, keep: float, value_bytes: int = VALUE_BYTES
) -> Ledger:
    """Weigh what a method would make of a layer, from its shape alone.

    Parameters
    ----------
    method
        The method.
    num_experts, rows, columns
        N, p_I and D of the layer.
    keep
        Kept fraction of the parameters per expert.
    value_bytes
        Bytes of one stored value.
    """
    return _weigh((method.outline(rows, columns, keep=keep),) * num_experts, method.uses_center, value_bytes)


def _weigh(pieces: Sequence[Piece], center: bool, value_bytes: int) -> Ledger:
    entries = [entry for piece in pieces for entry in _weigh_piece(piece, value_bytes)]
    kinds = dict.fromkeys((entry.item, entry.format) for entry in entries)
    merged = [
        Entry(item, form, sum(entry.nbytes for entry in entries if (entry.item, entry.format) == (item, form)))
        for item, form in kinds
    ]
    rows, columns = pieces[0].shape
    if center:
        merged.append(Entry("center", "dense", rows * columns * value_bytes))
    return Ledger(tuple(merged), len(pieces) * rows * columns * value_bytes)


def _weigh_sparse(piece: Sparse, value_bytes: int) -> list[Entry]:
    """Values, and whichever is smaller: one bit an entry, or 16-bit columns with 32-bit row starts."""
    rows, columns = piece.shape
    bitmask = rows * -(-columns // 8)
    csr16 = 2 * piece.values.numel() + 4 * (rows + 1) if columns < 2**16 else bitmask + 1
    form, index_bytes = ("bitmask", bitmask) if bitmask <= csr16 else ("csr16", csr16)
    return [Entry("values", form, piece.values.numel() * value_bytes), Entry("indices", form, index_bytes)]


def _weigh_low_rank(piece: LowRank, value_bytes: int) -> list[Entry]:
    return [Entry("factors", "lowrank-joint", (piece.left.numel() + piece.right.numel()) * value_bytes)]


_SCALES: dict[type, Callable[..., list[Entry]]] = {Sparse: _weigh_sparse, LowRank: _weigh_low_rank}


def _weigh_piece(piece: Piece, value_bytes: int) -> list[Entry]:
    return _SCALES[type(piece)](piece, value_bytes)
