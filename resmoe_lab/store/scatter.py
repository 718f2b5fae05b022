"""Sparse matrices, packed: one bit for each place, or the column of each value in 16 bits.

Both are put on top of a dense matrix, the center, by compiled loops on the CPU, and by torch's own operations
elsewhere.
"""

from __future__ import annotations

import os
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .._core.threads import compiled_threads
from .bits import unpack_mask

#: Columns have to fit into 16 bits.
MAX_COLUMNS = 2**16


def pack_columns(mask: Tensor) -> tuple[Tensor, Tensor]:
    """Return the (rows + 1,) int32 starts of the rows, and the (values,) uint16 columns of a mask's places."""
    counts = mask.sum(dim=1)
    starts = torch.cat([counts.new_zeros(1), counts.cumsum(0)]).to(torch.int32)
    return starts, mask.nonzero()[:, 1].to(torch.uint16)


def mask_starts(bits: Tensor) -> Tensor:
    """Return the (rows + 1,) int32 places where each row's values begin, from a packed mask."""
    if bits.device.type == "cpu":
        return torch.from_numpy(_compiled().mask_starts(bits.numpy()))
    counts = unpack_mask(bits, 8 * bits.shape[1]).sum(dim=1)
    return torch.cat([counts.new_zeros(1), counts.cumsum(0)]).to(torch.int32)


def put_by_mask(
    matrix: Tensor, center: Tensor | None, bits: Tensor, starts: Tensor, *, values: Tensor, scale: Tensor | None
) -> None:
    """Fill a matrix with a center, and add values at the places of a packed mask, in row-major order.

    Parameters
    ----------
    matrix
        (rows, columns) float32 or other float; whatever is in it is lost.
    center
        (B, rows, columns / B), its column blocks; None for zeros.
    bits
        (rows, ceil(columns / 8)) uint8.
    starts
        What :func:`mask_starts` says of them.
    values
        (places,) values of any stored type.
    scale
        (rows,) factors of 8 bit values.
    """
    if _can_compile(matrix):
        center_array, *floats = _numbers(matrix, center, values, scale)
        with compiled_threads():
            _compiled().put_by_mask(matrix.detach().numpy(), center_array, bits.numpy(), starts.numpy(), *floats)
        return
    put_center(matrix, center)
    mask = unpack_mask(bits, matrix.shape[1])
    rows = mask.nonzero()[:, 0]
    matrix[mask] += _scaled(values, scale, rows).to(matrix.dtype)


def put_by_columns(
    matrix: Tensor, center: Tensor | None, columns: Tensor, starts: Tensor, *, values: Tensor, scale: Tensor | None
) -> None:
    """Fill a matrix with a center, and add values to the columns they name.

    Parameters
    ----------
    matrix, center, values, scale
        As for :func:`put_by_mask`.
    columns
        (places,) uint16.
    starts
        (rows + 1,) int32 starts of the rows.
    """
    if _can_compile(matrix):
        center_array, *floats = _numbers(matrix, center, values, scale)
        with compiled_threads():
            _compiled().put_by_columns(matrix.detach().numpy(), center_array, starts.numpy(), columns.numpy(), *floats)
        return
    put_center(matrix, center)
    counts = starts.diff().long()
    rows = torch.repeat_interleave(torch.arange(len(matrix), device=matrix.device), counts)
    matrix.index_put_((rows, columns.long()), _scaled(values, scale, rows).to(matrix.dtype), accumulate=True)


def put_center(matrix: Tensor, center: Tensor | None) -> None:
    """Fill a (rows, columns) matrix with a center's (B, rows, columns / B) column blocks, or with zeros."""
    matrix.zero_() if center is None else matrix.unflatten(1, (len(center), -1)).copy_(center.transpose(0, 1))


def _numbers(
    matrix: Tensor, center: Tensor | None, values: Tensor, scale: Tensor | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Center, values and factors as float32, for the compiled loops; copies only where they are stored otherwise."""
    blocks = torch.zeros(1).expand(1, *matrix.shape) if center is None else center.detach().float()
    return blocks.numpy(), _floats(values), _factors(scale, len(matrix))


def _scaled(values: Tensor, scale: Tensor | None, rows: Tensor) -> Tensor:
    return values if scale is None else values.float() * scale.float()[rows]


def _floats(values: Tensor) -> np.ndarray:
    return np.asarray(values.float())


def _factors(scale: Tensor | None, rows: int) -> np.ndarray:
    return np.ones(rows, np.float32) if scale is None else np.asarray(scale.float())


def _can_compile(matrix: Tensor) -> bool:
    return matrix.dtype == torch.float32 and runs_compiled(matrix)


def runs_compiled(tensor: Tensor) -> bool:
    """Whether compiled loops may run on a tensor: on the CPU, and not in a forked process."""
    return tensor.device.type == "cpu" and not _FORKED


def _note_fork() -> None:
    """OpenMP ends a forked process that goes on with its parent's threads: torch's own operations do the rest."""
    global _FORKED  # noqa: PLW0603  (a fact about the process)
    _FORKED = True


_FORKED = False
os.register_at_fork(after_in_child=_note_fork)


@cache
def _compiled() -> Any:
    from . import _scatter_loops

    return _scatter_loops
