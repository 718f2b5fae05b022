"""Encoded rows as a module, so that their parts are saved, loaded and moved like any other weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

import torch
from torch import Tensor, nn

from ..encodings import Encoded, Encoding

Part = TypeVar("Part")


class StoredRows(nn.Module):
    """The encoded rows of all experts, one expert's after another's.

    Parameters
    ----------
    encoded
        All rows; each part becomes a parameter of its own name, such as ``data`` and ``scale``.
    columns
        How many values a row has, where they are packed and the parts alone do not tell.
    """

    data: nn.Parameter

    def __init__(self, encoded: Encoded, columns: int | None = None) -> None:
        super().__init__()
        self.encoding = encoded.encoding
        self.columns = columns
        for name, part in encoded.parts.items():
            self.register_parameter(name, nn.Parameter(part, requires_grad=False))

    @property
    def row_scale(self) -> Tensor | None:
        """(rows,) factors of the rows, None where values stand for themselves, or groups of them have one each."""
        scale = self._parameters.get("scale")
        return None if scale is None or scale.dim() > 1 else scale

    def read(self, rows: slice, dtype: torch.dtype) -> Tensor:
        """Return some rows as floats: a view where they are stored so."""
        return self.encoding.encoder.decode(self.encoding, self.parts(rows), dtype, columns=self.columns)

    def parts(self, rows: slice) -> dict[str, Tensor]:
        """Return views of some rows as they are stored."""
        return {name: part[rows] for name, part in self._parts().items()}

    def read_unscaled(self, rows: slice, dtype: torch.dtype) -> Tensor:
        """Return some rows without the scales of whole rows."""
        if self.row_scale is None:
            return self.read(rows, dtype)
        return self.encoding.encoder.unscaled(self.encoding, self.data[rows], dtype)

    def take(self, rows: Tensor | slice) -> Encoded:
        """Copy some rows as they are stored, so that the memory of the others can be freed."""
        return Encoded(self.encoding, {name: part[rows].detach().clone() for name, part in self._parts().items()})

    def _parts(self) -> dict[str, Tensor]:
        return {name: part for name, part in self._parameters.items() if part is not None}


def prefixed(prefix: str, parts: Mapping[str, Part]) -> dict[str, Part]:
    """Return the parts under the names that they have in a format's tensors: ``prefix.data``, ``prefix.scale``."""
    return {f"{prefix}.{name}": part for name, part in parts.items()}


def stored_rows(
    prefix: str, tensors: Mapping[str, Tensor], encoding: Encoding, *, columns: int | None = None
) -> StoredRows:
    """Make a module of the parts that stand under a prefix in a format's tensors."""
    start = f"{prefix}."
    parts = {name.removeprefix(start): part for name, part in tensors.items() if name.startswith(start)}
    return StoredRows(Encoded(encoding, parts), columns)
