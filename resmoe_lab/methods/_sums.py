"""Sums of the smallest of many numbers: what a pruned matrix loses at every kept fraction."""

from __future__ import annotations

from collections.abc import Sequence

import torch


def smallest_sums(values: torch.Tensor, counts: Sequence[int]) -> list[float]:
    """Return, for each count, the float64 sum of so many of the smallest values.

    Nothing is sorted but what lies beside the counts: float32 numbers that are not negative stand in the order of
    their bits, so one pass adds them up by their leading bits, and only the few that share them with a count's last
    value have to be put in order.

    Parameters
    ----------
    values
        (n,) float tensor without negative values.
    counts
        From 0 to n, in any order.
    """
    if values.device.type != "cpu" or values.dtype != torch.float32:
        return first_sums(values.sort().values, counts)
    from ._passes import add_up, pick

    numbers = values.numpy()
    sizes, totals = add_up(numbers)
    ends = torch.from_numpy(sizes).cumsum(0)
    before = torch.cat([ends.new_zeros(1), ends])
    below = torch.cat([ends.new_zeros(1, dtype=torch.float64), torch.from_numpy(totals).cumsum(0)])
    bins = torch.searchsorted(ends, torch.tensor(counts)).tolist()
    wanted = sorted({at for at, count in zip(bins, counts, strict=True) if count > before[at]})
    inside = dict(zip(wanted, pick(numbers, wanted, sizes), strict=True)) if wanted else {}
    rests = [count - int(before[at]) for at, count in zip(bins, counts, strict=True)]
    return [float(below[at]) + float(inside[at][rest - 1] if rest else 0) for at, rest in zip(bins, rests, strict=True)]


def first_sums(values: torch.Tensor, counts: Sequence[int]) -> list[float]:
    """Return, for each count, the float64 sum of so many values at the beginning of a vector."""
    ends = sorted(set(counts))
    pieces = values.tensor_split(ends)[: len(ends)]
    sums = torch.stack([piece.sum(dtype=torch.float64) for piece in pieces]).cumsum(0).tolist()
    sum_of_first = dict(zip(ends, sums, strict=True))
    return [sum_of_first[count] for count in counts]
