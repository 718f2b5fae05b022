"""The compiled loops of :mod:`~resmoe_lab.methods._sums`; importing this file loads the compiler."""

from __future__ import annotations

from collections.abc import Sequence

import numba
import numpy as np

#: Values are told apart by their leading 16 bits: the exponent and seven bits of the fraction.
_SHIFT, _BINS = 16, 1 << 16


def add_up(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How many values share their leading bits, (2^16,) int64, and their float64 sums, smallest first."""
    return _add_up(values, values.view(np.uint32))


def pick(values: np.ndarray, bins: Sequence[int], sizes: np.ndarray) -> list[np.ndarray]:
    """Float64 running sums of the values of some bins, each in ascending order."""
    starts = np.full(_BINS, -1, np.int64)
    ends = np.cumsum(sizes[bins])
    starts[bins] = ends - sizes[bins]
    picked = _pick(values, values.view(np.uint32), starts, int(ends[-1]))
    return [np.cumsum(np.sort(own), dtype=np.float64) for own in np.split(picked, ends[:-1])]


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
