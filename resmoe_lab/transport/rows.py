"""Rows of design matrices as the search sees them: moved and scaled so that float32 loses nothing that matters.

``|x|^2 + |y|^2 - 2 <x, y>`` cancels in float32 where the rows share a large vector, and overflows or vanishes where
they are very large or very small. No match depends on a vector that all rows of a matrix share, nor on a factor. Where
these matter, the mean is subtracted before anything is rounded and the rest multiplied by a power of two, block by
block as it is needed; where they do not, the rows are taken as they are.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from types import EllipsisType

import torch
from torch import Tensor

#: Rows whose largest entry lies between these powers of two need no factor: sums of squares of a million such columns
#: stay far from both ends of float32's range.
SMALL, LARGE = -30, 40
#: The mean is subtracted where its square is more than this fraction of the mean squared distance from it. Below, the
#: rows lose at most a hundredth more to rounding than centered ones.
COMMON = 0.01
#: The same for 16-bit rows: they have few digits to lose, and as they are they have faster products.
COMMON_16_BIT = 1.0
#: Number of rows by which the mean is judged.
SAMPLE = 256
#: Entries of a temporary while a large matrix is processed block by block: it fits a core's cache, and stays below
#: torch's threshold for multithreading, whose synchronisation would take longer than the work.
BLOCK_ENTRIES = (1 << 15) - 1

Index = slice | Tensor | EllipsisType


def blocks(rows: int, width: int, *, entries: int = BLOCK_ENTRIES) -> Iterator[slice]:
    """Split `rows` rows of `width` entries into slices of at most `entries` entries, but at least one row."""
    step = max(1, entries // max(width, 1))
    return (slice(start, min(start + step, rows)) for start in range(0, rows, step))


class Rows:
    """The rows of a matrix, less a vector, times a power of two; computed block by block, never held as a whole.

    Parameters
    ----------
    values
        (n, D) of any float dtype.
    shift
        (D,) float64, subtracted from every row (default: nothing).
    scale
        A power of two by which the rest is multiplied.
    """

    def __init__(self, values: Tensor, *, shift: Tensor | None = None, scale: float = 1.0) -> None:
        self.values, self.shift, self.scale = values, shift, scale
        self.plain = shift is None and scale == 1
        self._high = self._low = None
        if shift is not None and values.dtype != torch.float64:
            # Two float32 numbers hold the shift to 48 bits, so that subtracting them rounds only what is left.
            self._high = (shift * scale).float()
            self._low = (shift * scale - self._high.double()).float()

    @property
    def shape(self) -> torch.Size:
        """(n, D)."""
        return self.values.shape

    @property
    def device(self) -> torch.device:
        """Where the rows are."""
        return self.values.device

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of :meth:`block`: that of the values where nothing has to be computed."""
        return self.values.dtype if self.plain else torch.float32

    def __len__(self) -> int:
        return len(self.values)

    def columns(self, part: slice) -> Rows:
        """Return the rows with some of their columns only."""
        shift = None if self.shift is None else self.shift[part]
        return Rows(self.values[:, part], shift=shift, scale=self.scale)

    def block(self, index: Index = ...) -> Tensor:
        """Return some rows (default: all) in `dtype`; a slice is a view where nothing has to be computed."""
        values = self.values[index]
        if self.plain:
            return values
        if values.dtype == torch.float64:
            centered = values if self.shift is None else values - self.shift
            return (centered * self.scale).float()
        scaled = values.float() * self.scale
        return scaled if self._high is None or self._low is None else scaled.sub_(self._high).sub_(self._low)

    def copy_to(self, out: Tensor, index: Index = ...) -> Tensor:
        """Write some rows into `out`: the very numbers of :meth:`block`, so that equal rows are at no distance."""
        return out.copy_(self.block(index))


def as_rows(rows: Tensor | Rows) -> Rows:
    """Return rows as they are as :class:`Rows`."""
    return rows if isinstance(rows, Rows) else Rows(rows)


def normalized(matrices: Sequence[Tensor], *, together: bool = False) -> list[Rows]:
    """Return matrices less their means and times a factor, where these matter; the same factor for all.

    Parameters
    ----------
    matrices
        Finite matrices of one width, (n, D) of any float dtype.
    together
        Whether one mean is taken of all, so that distances between rows of different matrices stay what they are.
    """
    largest = max(_largest(values) for values in matrices)
    if not largest:
        return [Rows(values) for values in matrices]
    if any(_has_common_part(values) for values in matrices):
        shifts: list[Tensor | None] = [_mean(values) for values in matrices]
        if together:
            mean = torch.stack([shift for shift in shifts if shift is not None]).mean(0)
            shifts = [mean] * len(matrices)
        largest = max(_spread(values, shift) for values, shift in zip(matrices, shifts, strict=True))
    else:
        shifts = [None] * len(matrices)
    scale = _scale(largest)
    return [Rows(values, shift=shift, scale=scale) for values, shift in zip(matrices, shifts, strict=True)]


def _scale(largest: float) -> float:
    """Return the power of two that brings `largest` near 1, or 1 where that is not needed."""
    exponent = math.frexp(largest)[1]
    return 1.0 if largest == 0 or SMALL <= exponent <= LARGE else 2.0 ** min(max(-exponent, -126), 126)


def _largest(values: Tensor) -> float:
    return float(torch.stack(values.aminmax()).double().abs().max()) if values.numel() else 0.0


def _has_common_part(values: Tensor) -> bool:
    """Whether the mean of the rows is large in comparison with their distances from it, judged by some of them."""
    count = min(SAMPLE, len(values))
    if not count:
        return False
    places = torch.linspace(0, len(values) - 1, count, device=values.device).round().long()
    sample = values[places].double()
    sample = sample / sample.abs().max().clamp(min=5e-324)
    mean = sample.mean(0)
    spread = (sample - mean).square().sum() / count
    # The mean of a part differs from that of all rows by about the spread over their number.
    square = mean.square().sum() - (spread / count if count < len(values) else 0.0)
    return bool(square > (COMMON_16_BIT if values.element_size() == 2 else COMMON) * spread)


def _mean(values: Tensor) -> Tensor:
    """Return the mean row in float64, exact for columns that are constant."""
    total = torch.zeros(values.shape[1], dtype=torch.float64, device=values.device)
    for part in blocks(*values.shape):
        total += values[part].double().sum(0)
    low, high = values.amin(0).double(), values.amax(0).double()
    return (total / len(values)).clamp(low, high)


def _spread(values: Tensor, shift: Tensor | None) -> float:
    """Return the largest distance of an entry from the shift."""
    assert shift is not None
    low, high = values.amin(0).double(), values.amax(0).double()
    return float(torch.maximum(high - shift, shift - low).max())
