"""The compiled loops of :mod:`~resmoe_lab.store.scatter`; importing this file loads the compiler."""

from __future__ import annotations

import numba
import numpy as np

from ._expand import LANES, add_expanded, count_bits

#: For each byte, how many bits are set, and which.
_COUNT = np.array([bin(byte).count("1") for byte in range(256)], np.uint8)
_PLACES = np.zeros((256, 8), np.uint8)
for _byte in range(256):
    _set = [place for place in range(8) if _byte >> place & 1]
    _PLACES[_byte, : len(_set)] = _set


@numba.njit(cache=True, nogil=True)
def mask_starts(bits):  # type: ignore[no-untyped-def]
    """(rows + 1,) where each row's values begin, by counting the bits before them."""
    rows, width = bits.shape
    starts = np.zeros(rows + 1, np.int32)
    for row in range(rows):
        count = 0
        for byte in range(width):
            count += _COUNT[bits[row, byte]]
        starts[row + 1] = count
    return np.cumsum(starts).astype(np.int32)


@numba.njit(parallel=True, cache=True, nogil=True)
def put_by_mask(matrix, center, bits, starts, values, scale):  # type: ignore[no-untyped-def]
    """Rows are shared out over the threads; each row is copied from the center and added to while it is in reach."""
    blocks, rows, p = center.shape
    words = matrix.shape[1] // LANES
    for row in numba.prange(rows):
        for block in range(blocks):
            matrix[row, block * p : (block + 1) * p] = center[block, row]
        at, factor = np.intp(starts[row]), scale[row]
        for word in range(words):
            mask = np.uint16(np.uint16(bits[row, 2 * word]) | np.uint16(bits[row, 2 * word + 1]) << np.uint16(8))
            add_expanded(matrix[row], word * LANES, values, at, mask, factor)
            at += np.intp(count_bits(mask))
        for byte in range(2 * words, bits.shape[1]):
            packed = bits[row, byte]
            for i in range(_COUNT[packed]):
                matrix[row, byte * 8 + _PLACES[packed, i]] += values[at] * factor
                at += 1


@numba.njit(parallel=True, cache=True, nogil=True)
def put_by_columns(matrix, center, starts, columns, values, scale):  # type: ignore[no-untyped-def]
    """Rows are shared out over the threads; each row is copied from the center and added to while it is in reach."""
    blocks, rows, p = center.shape
    for row in numba.prange(rows):
        for block in range(blocks):
            matrix[row, block * p : (block + 1) * p] = center[block, row]
        factor = scale[row]
        for at in range(starts[row], starts[row + 1]):
            matrix[row, columns[at]] += values[at] * factor
