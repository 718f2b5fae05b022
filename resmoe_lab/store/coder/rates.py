"""What a step costs and saves, before anything is coded: rates and errors from one fine histogram."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .quantizer import BIT_PRICE, MAX_LEVEL, first_limits, thresholds_of

#: Magnitudes are counted in bins of this share of the largest.
_BINS = 1 << 15
#: Values that are counted at a time: temporaries of all of them would be several times as large as they are.
_CHUNK = 1 << 16
#: Halvings, between logarithms, of the interval in which a step is looked for.
_HALVINGS = 40


class RateCurve:
    """Rate and distortion of values at any step, by the rule of :func:`~.quantizer.quantize` with one table.

    Parameters
    ----------
    values
        Float32 values of any shape, finite: all, or a part that stands for them.

    Examples
    --------
    >>> curve = RateCurve(np.random.default_rng(0).normal(size=100_000).astype(np.float32))
    >>> bits, error = curve.at(0.5)
    >>> round(bits, 1), round(error / (0.5**2 / 12), 1)
    (3.1, 1.0)
    """

    def __init__(self, values: np.ndarray) -> None:
        flat = np.asarray(values, np.float32).reshape(-1)
        self.count = len(flat)
        self.largest = max(float(flat.max(initial=0.0)), -float(flat.min(initial=0.0)))
        scale, self.energy = np.float32(_BINS / (self.largest or 1.0)), 0.0
        counts, sums = np.zeros(_BINS, np.int64), np.zeros(_BINS)
        for start in range(0, self.count, _CHUNK):
            sizes = np.abs(flat[start : start + _CHUNK])
            bins = np.minimum(sizes * scale, _BINS - 1).astype(np.int64)
            counts += np.bincount(bins, minlength=_BINS)
            sums += np.bincount(bins, weights=sizes, minlength=_BINS)
            self.energy += float(np.dot(sizes.astype(np.float64), sizes))
        self._counts = np.concatenate([[0], np.cumsum(counts)])
        self._sums = np.concatenate([[0.0], np.cumsum(sums)])

    def at(self, step: float, *, bit_price: float = BIT_PRICE) -> tuple[float, float]:
        """Return bits a value, and squared error a value, at a step."""
        if not self.largest:
            return 0.0, 0.0
        k = int(min(MAX_LEVEL, max(1, np.floor(self.largest / step + 0.5))))
        counts, sums = self._cells(first_limits(k), step)
        counts, sums = self._cells(thresholds_of(counts[None], sums[None], bit_price)[0], step)
        shares = np.concatenate([counts[:1], counts[1:] / 2, counts[1:] / 2]) / self.count
        shares = shares[shares > 0]
        # Each cell gives back its mean: what is lost is what its values scatter around it.
        explained = float((sums[1:] ** 2 / np.maximum(counts[1:], 1)).sum()) * step**2
        return float(-(shares @ np.log2(shares))), max(0.0, self.energy - explained) / self.count

    def step_for(self, bits: float, *, bit_price: float = BIT_PRICE) -> float:
        """Return the least step at which a value takes no more than `bits` bits."""
        if not self.largest:
            return 1.0
        low, high = self.largest / MAX_LEVEL / 2, 4 * self.largest
        return bisect_steps(low, high, lambda step: self.at(step, bit_price=bit_price)[0] > bits)[1]

    def _cells(self, limits: np.ndarray, step: float) -> tuple[np.ndarray, np.ndarray]:
        """(k + 1,) how many magnitudes lie from each limit to the next, and their sums, in steps."""
        edges = limits * step * (_BINS / self.largest)
        places = np.append(np.clip(np.rint(edges), 0, _BINS).astype(np.int64), _BINS)
        return np.diff(self._counts[places]), np.diff(self._sums[places]) / step


def bisect_steps(low: float, high: float, too_small: Callable[[float], bool]) -> tuple[float, float]:
    """Return two steps close to one another, of which only the first is too small, from two far apart."""
    for _ in range(_HALVINGS):
        middle = (low * high) ** 0.5
        low, high = (middle, high) if too_small(middle) else (low, middle)
    return low, high
