"""Compiled passes over many numbers, which are compared by their bits; importing this file loads the compiler."""

from __future__ import annotations

from collections.abc import Sequence

import numba
import numpy as np

#: Values are binned by their leading 16 bits: the exponent and seven bits of the fraction.
_SHIFT, _BINS = 16, 1 << 16
#: All bits of a float32 but its sign: magnitudes stand in the order of these.
_MAGNITUDE = np.uint32(0x7FFFFFFF)


def add_up(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How many values share their leading bits, (2^16,) int64, and their float64 sums, smallest first."""
    return _add_up(values, values.view(np.uint32))


def pick(values: np.ndarray, bins: Sequence[int], sizes: np.ndarray) -> list[np.ndarray]:
    """Float64 running sums of the values of some bins, each in ascending order."""
    starts = np.full(_BINS, -1, np.int64)
    ends = np.cumsum(sizes[bins])
    starts[bins] = ends - sizes[bins]
    picked = _pick(values, values.view(np.uint32), starts, int(ends[-1]))
    return [np.cumsum(np.sort(values_of_bin), dtype=np.float64) for values_of_bin in np.split(picked, ends[:-1])]


def keep_largest(matrix: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Keep exactly `count` entries of largest magnitude; of equal ones, those that come first.

    Parameters
    ----------
    matrix
        (rows, columns) float32, in row-major order.
    count
        From 1 to all of them.

    Returns
    -------
    values : (count,) float32
    bits : (rows, ceil(columns / 8)) uint8, as :func:`~resmoe_lab.store.bits.pack_mask` has them
    """
    flat = matrix.reshape(-1).view(np.uint32)
    sizes = _sizes(flat)
    at_least = np.cumsum(sizes[::-1])[::-1]
    leading = int(np.flatnonzero(at_least >= count)[-1])
    inside = np.sort(_inside(flat, leading, int(sizes[leading])))
    missing = count - (int(at_least[leading]) - len(inside))
    least = inside[len(inside) - missing]
    equal = missing - int(len(inside) - np.searchsorted(inside, least, "right"))
    return _keep(matrix, matrix.view(np.uint32), least, equal, count)


def kept_sums(matrix: np.ndarray, weights: np.ndarray, counts: Sequence[int]) -> list[float]:
    """Return, for every count, the float64 sum of the weights of the entries that :func:`keep_largest` keeps.

    Parameters
    ----------
    matrix, weights
        (rows, columns) float32, in row-major order.
    counts
        From 0 to all of them, in any order.
    """
    flat, added = matrix.reshape(-1).view(np.uint32) & _MAGNITUDE, weights.reshape(-1)
    size = len(flat)
    order = np.partition(flat, sorted({size - count for count in counts if count}))
    sums = []
    for count in counts:
        if not count:
            sums.append(0.0)
            continue
        least = order[size - count]
        equal = count - int(np.count_nonzero(flat > least))
        sums.append(float(_kept_sum(flat, added, least, equal)))
    return sums


@numba.njit(cache=True, nogil=True)
def _kept_sum(magnitudes, weights, least, equal):  # type: ignore[no-untyped-def]
    total = 0.0
    for place in range(len(magnitudes)):
        if magnitudes[place] > least:
            total += weights[place]
        elif magnitudes[place] == least and equal > 0:
            equal -= 1
            total += weights[place]
    return total


@numba.njit(cache=True, nogil=True)
def _sizes(bits):  # type: ignore[no-untyped-def]
    sizes = np.zeros(_BINS >> 1, np.int64)
    for place in range(len(bits)):
        sizes[(bits[place] & _MAGNITUDE) >> _SHIFT] += 1
    return sizes


@numba.njit(cache=True, nogil=True)
def _inside(bits, leading, count):  # type: ignore[no-untyped-def]
    magnitudes, at = np.empty(count, np.uint32), 0
    for place in range(len(bits)):
        magnitude = bits[place] & _MAGNITUDE
        if magnitude >> _SHIFT == leading:
            magnitudes[at] = magnitude
            at += 1
    return magnitudes


@numba.njit(cache=True, nogil=True)
def _keep(matrix, bits, least, equal, count):  # type: ignore[no-untyped-def]
    rows, columns = matrix.shape
    values, packed = np.empty(count, np.float32), np.zeros((rows, (columns + 7) >> 3), np.uint8)
    at = 0
    for row in range(rows):
        for column in range(columns):
            magnitude = bits[row, column] & _MAGNITUDE
            kept = magnitude > least
            if magnitude == least and equal > 0:
                kept, equal = True, equal - 1
            if kept:
                values[at] = matrix[row, column]
                packed[row, column >> 3] |= np.uint8(1) << np.uint8(column & 7)
                at += 1
    return values, packed


@numba.njit(cache=True, nogil=True)
def _add_up(values, bits):  # type: ignore[no-untyped-def]
    sizes, totals = np.zeros(_BINS, np.int64), np.zeros(_BINS, np.float64)
    for place in range(len(values)):
        bin_of = bits[place] >> _SHIFT
        sizes[bin_of] += 1
        totals[bin_of] += values[place]
    return sizes, totals


@numba.njit(cache=True, nogil=True)
def _pick(values, bits, starts, count):  # type: ignore[no-untyped-def]
    picked = np.empty(count, np.float32)
    for place in range(len(values)):
        bin_of = bits[place] >> _SHIFT
        at = starts[bin_of]
        if at >= 0:
            picked[at] = values[place]
            starts[bin_of] = at + 1
    return picked
