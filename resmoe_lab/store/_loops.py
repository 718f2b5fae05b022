"""The compiled loops of :mod:`~resmoe_lab.store.sparse`; importing this file loads the compiler."""

from __future__ import annotations

import numba
import numpy as np

#: For each byte, how many bits are set, and which.
_COUNT = np.array([bin(byte).count("1") for byte in range(256)], np.uint8)
_PLACES = np.zeros((256, 8), np.uint8)
for _byte in range(256):
    _set = [place for place in range(8) if _byte >> place & 1]
    _PLACES[_byte, : len(_set)] = _set


@numba.njit(parallel=True, cache=True, nogil=True)
def add_by_mask(matrix, bits, values, scale):  # type: ignore[no-untyped-def]
    """Rows are shared out over the threads; each finds its first value by counting the bits before it."""
    rows, width = bits.shape
    starts = np.zeros(rows + 1, np.int64)
    for row in numba.prange(rows):
        count = 0
        for byte in range(width):
            count += _COUNT[bits[row, byte]]
        starts[row + 1] = count
    for row in range(rows):
        starts[row + 1] += starts[row]
    for row in numba.prange(rows):
        at, factor = starts[row], scale[row]
        for byte in range(width):
            packed = bits[row, byte]
            for i in range(_COUNT[packed]):
                matrix[row, byte * 8 + _PLACES[packed, i]] += values[at] * factor
                at += 1


@numba.njit(parallel=True, cache=True, nogil=True)
def add_by_columns(matrix, starts, columns, values, scale):  # type: ignore[no-untyped-def]
    """Rows are shared out over the threads."""
    for row in numba.prange(len(starts) - 1):
        factor = scale[row]
        for at in range(starts[row], starts[row + 1]):
            matrix[row, columns[at]] += values[at] * factor
