"""The ledger: bytes of a compressed layer, as really stored and as the paper counts."""

from __future__ import annotations

from dataclasses import dataclass

#: Bytes of one stored index of the maps that stand in a checkpoint's config.
INDEX_BYTES = 2


@dataclass(frozen=True)
class Entry:
    """One line of a ledger.

    Parameters
    ----------
    item
        ``"values"``, ``"scales"``, ``"indices"`` or ``"factors"`` of the experts, the ``"center"``, the ``"map"``
        from experts to groups, or the order of the ``"outputs"`` (see :class:`~resmoe_lab.centers.Center`).
    format
        How it is stored: ``"dense"``, ``"int16"``, or the name of a format.
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
        Bytes of the uncompressed experts in the value width of the center, at least 16 bit.
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
        """Name of the format of the experts."""
        return self.entries[0].format
