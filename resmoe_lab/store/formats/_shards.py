"""Where each expert's part of a stored tensor is, and how work is split over processes."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

import torch
from torch import Tensor

from ..._core.errors import UsageError


def expert_slices(counts: Sequence[int]) -> list[slice]:
    """Return where each expert's rows or values begin and end."""
    ends = list(accumulate(counts))
    return [slice(end - count, end) for end, count in zip(ends, counts, strict=True)]


def expert_index(counts: Sequence[int], experts: Sequence[int]) -> Tensor:
    """Return the (n,) int64 index of the rows or values of some experts among those of all."""
    slices = expert_slices(counts)
    return torch.cat([torch.arange(slices[expert].start, slices[expert].stop) for expert in experts])


def shard_range(count: int, rank: int, world_size: int) -> slice:
    """Return which of `count` things the process `rank` of `world_size` holds: as even as can be.

    Raises
    ------
    UsageError
        If there are fewer things than processes.
    """
    if count < world_size:
        raise UsageError(f"{count} cannot be shared by {world_size} processes: start no more than {count}")
    return slice(count * rank // world_size, count * (rank + 1) // world_size)
