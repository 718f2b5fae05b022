"""Sparse matrices, packed: one bit for each place, or the column of each value in 16 bits.

Both are put on top of a dense matrix, the center, by a compiled loop on the CPU, and by torch's own operations
elsewhere.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

#: Columns have to fit into 16 bits.
MOST_COLUMNS = 2**16


def pack_mask(mask: Tensor) -> Tensor:
    """Pack a (rows, columns) bool mask into (rows, ceil(columns / 8)) bytes, the first column in the lowest bit."""
    packed = np.packbits(mask.cpu().numpy(), axis=1, bitorder="little")
    return torch.from_numpy(packed).to(mask.device)


def unpack_mask(bits: Tensor, columns: int) -> Tensor:
    """Unpack what :func:`pack_mask` packed into a (rows, columns) bool mask."""
    places = torch.arange(8, dtype=torch.uint8, device=bits.device)
    spread = (bits.unsqueeze(-1) >> places) & 1
    return spread.flatten(1)[:, :columns].bool()


def pack_columns(mask: Tensor) -> tuple[Tensor, Tensor]:
    """Return the (rows + 1,) int32 starts of the rows, and the (values,) uint16 columns of a mask's places."""
    counts = mask.sum(dim=1)
    starts = torch.cat([counts.new_zeros(1), counts.cumsum(0)]).to(torch.int32)
    return starts, mask.nonzero()[:, 1].to(torch.uint16)


def add_by_mask(matrix: Tensor, bits: Tensor, values: Tensor, scale: Tensor | None) -> None:
    """Add values to the places of a packed mask, in row-major order, in place.

    Parameters
    ----------
    matrix
        (rows, columns) float32 or other float.
    bits
        (rows, ceil(columns / 8)) uint8.
    values
        (places,) values of any stored type.
    scale
        (rows,) factors of 8 bit values.
    """
    if matrix.device.type == "cpu" and matrix.dtype == torch.float32:
        _compiled().add_by_mask(matrix.detach().numpy(), bits.numpy(), _floats(values), _factors(scale, len(matrix)))
        return
    mask = unpack_mask(bits, matrix.shape[1])
    rows = mask.nonzero()[:, 0]
    matrix[mask] += _scaled(values, scale, rows).to(matrix.dtype)


def add_by_columns(matrix: Tensor, starts: Tensor, columns: Tensor, values: Tensor, scale: Tensor | None) -> None:
    """Add values to the columns they name, in place.

    Parameters
    ----------
    matrix
        (rows, columns) float32 or other float.
    starts
        (rows + 1,) int32 starts of the rows.
    columns
        (places,) uint16.
    values, scale
        As for :func:`add_by_mask`.
    """
    if matrix.device.type == "cpu" and matrix.dtype == torch.float32:
        _compiled().add_by_columns(
            matrix.detach().numpy(), starts.numpy(), columns.numpy(), _floats(values), _factors(scale, len(matrix))
        )
        return
    counts = starts.diff().long()
    rows = torch.repeat_interleave(torch.arange(len(matrix), device=matrix.device), counts)
    matrix.index_put_((rows, columns.long()), _scaled(values, scale, rows).to(matrix.dtype), accumulate=True)


def _scaled(values: Tensor, scale: Tensor | None, rows: Tensor) -> Tensor:
    return values if scale is None else values.float() * scale.float()[rows]


def _floats(values: Tensor) -> np.ndarray:
    return np.asarray(values.float())


def _factors(scale: Tensor | None, rows: int) -> np.ndarray:
    return np.ones(rows, np.float32) if scale is None else np.asarray(scale.float())


@cache
def _compiled() -> Any:
    from . import _loops

    return _loops
