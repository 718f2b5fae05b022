"""Frequency tables of the coder."""

from __future__ import annotations

import heapq

import numpy as np

from ._layout import TABLE_BITS

TOTAL = 1 << TABLE_BITS


def frequencies_of(counts: np.ndarray) -> np.ndarray:
    """Return whole frequencies that add up to :data:`TOTAL` and code symbols that occur so often in the fewest bits.

    Parameters
    ----------
    counts
        (K,) how often each symbol occurs, K from 2 to 256. One that never does gets no frequency, but for a second one
        where there is only one.

    Returns
    -------
    numpy.ndarray
        (K,) uint16.
    """
    counts = np.asarray(counts, np.float64)
    if np.count_nonzero(counts) < 2:  # a frequency has twelve bits: all of the table is one too many
        frequencies = np.zeros(len(counts), np.uint16)
        first = int(counts.argmax())
        frequencies[first], frequencies[first - 1] = TOTAL - 1, 1
        return frequencies
    used = counts > 0
    frequencies = np.where(used, np.maximum(1, np.floor(counts / counts.sum() * TOTAL)), 0).astype(np.int64)
    _settle(frequencies, counts)
    return frequencies.astype(np.uint16)


def _settle(frequencies: np.ndarray, counts: np.ndarray) -> None:
    """Give and take single units where that gains most, or costs least, until the table is full."""
    step = 1 if frequencies.sum() < TOTAL else -1

    def cost(symbol: int) -> float:
        """Bits more than now with one step."""
        now = frequencies[symbol]
        return float("inf") if now + step < 1 else float(counts[symbol] * np.log2(now / (now + step)))

    queue = [(cost(symbol), symbol) for symbol in np.flatnonzero(counts).tolist()]
    heapq.heapify(queue)
    for _ in range(abs(TOTAL - int(frequencies.sum()))):
        _, symbol = heapq.heappop(queue)
        frequencies[symbol] += step
        heapq.heappush(queue, (cost(symbol), symbol))


def starts_of(frequencies: np.ndarray) -> np.ndarray:
    """Return the (..., K) uint32 place at which each symbol's slots begin."""
    ends = np.cumsum(frequencies, axis=-1, dtype=np.uint32)
    return ends - frequencies.astype(np.uint32)


def decoding_table(frequencies: np.ndarray) -> np.ndarray:
    """Return, for each slot, its symbol (8 bits), its place among the symbol's slots (12) and their number (12)."""
    frequencies = frequencies.astype(np.uint32)
    symbols = np.repeat(np.arange(len(frequencies), dtype=np.uint32), frequencies)
    within = np.arange(TOTAL, dtype=np.uint32) - starts_of(frequencies)[symbols]
    return (symbols << np.uint32(24)) | (within << np.uint32(TABLE_BITS)) | frequencies[symbols]


def code_lengths(frequencies: np.ndarray) -> np.ndarray:
    """Return how many bits each symbol takes, (..., K) float64; one without a frequency, more than any that has one."""
    return np.where(frequencies > 0, TABLE_BITS - np.log2(np.maximum(frequencies, 1)), 2.0 * TABLE_BITS)
