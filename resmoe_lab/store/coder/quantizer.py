"""Rounding for the coder: multiples of a step, and the choice between two of them that is worth its bits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..._core.errors import UsageError
from .tables import code_lengths, frequencies_of

NOT_FINITE = "a weight is not finite (NaN or infinite), expected numbers: repair the checkpoint first"
#: Symbols on each side of zero, at most.
MAX_LEVEL = 127
#: What a bit may cost in squared error, in squared steps. At high rates 6 dB a bit make it ln(2) / 6 = 0.116.
BIT_PRICE = 0.11
#: Magnitude, in steps, below which a first rounding gives zero.
_DEAD_ZONE = 0.6
#: What a symbol stands for, in steps, at most: a float16.
_LARGEST_LEVEL = 65504.0
#: Kinds of rows that have a table each, where that pays.
_MAX_CLASSES = 8


@dataclass(frozen=True)
class QuantizedValues:
    """A matrix as symbols, and what they stand for.

    Parameters
    ----------
    symbols
        (rows, columns) uint8; symbol k of 2k + 1 is zero.
    stops
        Where each block of columns ends.
    steps
        (B,) float32: the step of each block.
    levels
        (2k + 1,) float16: the value of each symbol, in steps.
    classes
        (rows, B) uint8: which table codes the part of a row in a block.
    counts
        (C, 2k + 1) int64: how often each symbol occurs in each class.
    """

    symbols: np.ndarray
    stops: tuple[int, ...]
    steps: np.ndarray
    levels: np.ndarray
    classes: np.ndarray
    counts: np.ndarray

    @property
    def values(self) -> np.ndarray:
        """(rows, columns) float32 that the symbols stand for."""
        values = np.empty(self.symbols.shape, np.float32)
        for (start, stop), levels in zip(self._spans, self.level_values, strict=True):
            values[:, start:stop] = levels[self.symbols[:, start:stop]]
        return values

    @property
    def level_values(self) -> np.ndarray:
        """(B, 2k + 1) float32: the value of each symbol in each block."""
        return self.steps[:, None] * self.levels.astype(np.float32)

    def take(self, rows: slice) -> QuantizedValues:
        """Return some rows by themselves."""
        symbols, classes = self.symbols[rows], self.classes[rows]
        counts = np.zeros_like(self.counts)
        for block, (start, stop) in enumerate(self._spans):
            for kind in range(len(counts)):
                part = symbols[classes[:, block] == kind, start:stop]
                counts[kind] += np.bincount(part.reshape(-1), minlength=counts.shape[1])
        return QuantizedValues(symbols, self.stops, self.steps, self.levels, classes, counts)

    @property
    def _spans(self) -> list[tuple[int, int]]:
        return list(zip((0, *self.stops[:-1]), self.stops, strict=True))


def quantize(
    values: np.ndarray, stops: Sequence[int], steps: Sequence[float], *, bit_price: float = BIT_PRICE
) -> QuantizedValues:
    """Round a matrix to multiples of a step, with a preference for symbols of few bits.

    Parameters
    ----------
    values
        (rows, columns) float32, finite.
    stops
        Where each block of columns ends; the last is `columns`.
    steps
        The step of each block, above zero.
    bit_price
        Squared error, in squared steps, that one bit less is worth. 0 rounds to the nearest.

    Raises
    ------
    UsageError
        If a value is not finite, or a step is not above zero.

    Notes
    -----
    Entropy-constrained scalar quantization (Chou, Lookabaugh and Gray, IEEE Transactions on ASSP 37, 1989): thresholds
    and levels follow from the code lengths of a first rounding, and the code lengths that are used from the second.

    Examples
    --------
    >>> values = np.random.default_rng(0).normal(size=(64, 64)).astype(np.float32)
    >>> quantized = quantize(values, [64], [0.5])
    >>> float(abs(quantized.values - values).max()) < 0.5
    True
    """
    from ._loops import round_values

    values = np.ascontiguousarray(values, np.float32)
    steps_array = np.asarray(steps, np.float32)
    if not np.isfinite(steps_array).all() or (steps_array <= 0).any():
        raise UsageError(f"steps {list(steps)}, expected numbers above zero")
    spans = list(zip((0, *stops[:-1]), stops, strict=True))
    sizes, largest = _row_sizes(values, spans, steps_array)
    classes, kinds = _classes(sizes)
    k = int(min(MAX_LEVEL, max(1, np.floor(largest + 0.5))))
    shape, inverse, ends = (kinds, 2 * k + 1), (1 / steps_array).astype(np.float32), np.asarray(stops, np.int64)

    def rounded(rows: np.ndarray, of: np.ndarray, thresholds: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        symbols, counts, sums = np.empty(rows.shape, np.uint8), np.zeros(shape, np.int64), np.zeros(shape, np.float64)
        round_values(rows, ends, inverse, classes=of, thresholds=thresholds, symbols=symbols, counts=counts, sums=sums)
        return symbols, counts, sums

    # A part of the rows tells what symbols cost.
    every = max(1, len(values) // 128)
    _, counts, sums = rounded(values[::every].copy(), classes[::every].copy(), np.tile(first_limits(k), (kinds, 1)))
    # Both signs together.
    sides = counts[:, k:] + np.flip(counts[:, : k + 1], axis=1)
    magnitudes = sums[:, k:] - np.flip(sums[:, : k + 1], axis=1)
    sides[:, 0] //= 2
    symbols, counts, sums = rounded(values, classes, thresholds_of(sides, magnitudes, bit_price))
    used = np.flatnonzero(counts.sum(axis=0))
    most = max(1, k - int(used[0]), int(used[-1]) - k) if len(used) else 1
    keep = slice(k - most, k + most + 1)
    counts, sums = counts[:, keep], sums[:, keep]
    classes, counts = _worthwhile(classes, counts)
    symbols -= np.uint8(k - most)
    return QuantizedValues(symbols, tuple(stops), steps_array, _levels(counts, sums.sum(axis=0)), classes, counts)


def _row_sizes(values: np.ndarray, spans: Sequence[tuple[int, int]], steps: np.ndarray) -> tuple[np.ndarray, float]:
    """(rows, B) root mean squares in steps, and the largest magnitude in steps."""
    sizes, largest = np.empty((len(values), len(spans)), np.float32), 0.0
    for b, (start, stop) in enumerate(spans):
        part = values[:, start:stop]
        sizes[:, b] = np.sqrt(np.einsum("ij,ij->i", part, part) / (stop - start)) / steps[b]
        largest = max(largest, max(float(part.max(initial=0.0)), -float(part.min(initial=0.0))) / float(steps[b]))
    if not np.isfinite(sizes).all():
        raise UsageError(NOT_FINITE)
    return sizes, largest


def _classes(sizes: np.ndarray) -> tuple[np.ndarray, int]:
    """Put parts of rows into classes of like size, each with as many; few parts make few classes."""
    kinds = int(np.clip(sizes.size // 256, 1, _MAX_CLASSES))
    limits = np.quantile(sizes, np.arange(1, kinds) / kinds) if kinds > 1 else np.empty(0)
    return np.searchsorted(limits, sizes).astype(np.uint8), kinds


def first_limits(k: int) -> np.ndarray:
    """Return the (k + 1,) magnitudes, in steps, from which on a first rounding chooses each symbol."""
    limits = np.arange(k + 1, dtype=np.float32) - 0.5
    limits[:2] = 0.0, _DEAD_ZONE
    return limits


def thresholds_of(counts: np.ndarray, sums: np.ndarray, bit_price: float) -> np.ndarray:
    """Return from which magnitude on each symbol is worth its bits: where error plus price is the same on both sides.

    Parameters
    ----------
    counts, sums
        (C, k + 1) how often each magnitude was chosen in each class, both signs together, and their sums in steps.
    bit_price
        Squared error, in squared steps, that one bit less is worth.

    Returns
    -------
    numpy.ndarray
        (C, k + 1) float32, in steps; zero for the first, at most one and a half above the symbol before.
    """
    # A little more than none for those that did not occur; each sign has its half.
    occurrences = counts / 2 + 0.25
    occurrences[:, 0] = counts[:, 0] + 0.25
    total = occurrences[:, :1] + 2 * occurrences[:, 1:].sum(axis=1, keepdims=True)
    bits = np.log2(total / occurrences)
    levels = np.where(counts > 8, sums / np.maximum(counts, 1), np.arange(counts.shape[1]))
    levels[:, 0] = 0.0
    gaps = np.maximum(np.diff(levels, axis=1), 0.25)
    limits = (levels[:, :-1] + levels[:, 1:]) / 2 + bit_price * np.diff(bits, axis=1) / (2 * gaps)
    limits = np.clip(limits, np.arange(limits.shape[1]), np.arange(limits.shape[1]) + 1.5)
    return np.concatenate([np.zeros((len(limits), 1)), limits], axis=1).astype(np.float32)


def _worthwhile(classes: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """One table for all, where several save less than they take themselves."""
    one = counts.sum(axis=0, keepdims=True)

    def cost(tables: np.ndarray) -> float:
        coded = sum(float(row @ code_lengths(frequencies_of(row))) for row in tables)
        return coded + 16 * tables.size

    share = np.bincount(classes.reshape(-1), minlength=len(counts))
    names = float(share @ code_lengths(frequencies_of(share))) if len(counts) > 1 else 0.0
    if cost(counts) + names < cost(one):
        return classes, counts
    return np.zeros_like(classes), one


def _levels(counts: np.ndarray, sums: np.ndarray) -> np.ndarray:
    """(2k + 1,) float16: the mean of what each symbol stands for, in steps."""
    occurrences = counts.sum(axis=0)
    k = len(occurrences) // 2
    levels = np.where(occurrences > 0, sums / np.maximum(occurrences, 1), np.arange(-k, k + 1))
    levels[k] = 0.0
    return np.clip(levels, -_LARGEST_LEVEL, _LARGEST_LEVEL).astype(np.float16)
