"""Which tokens go to which experts, in batches of experts that have about as many."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate

import torch
from torch import Tensor

#: Experts share a batch of products as long as no more than this is computed for each selection that is wanted.
_PADDING = 1.75


@dataclass(frozen=True)
class Batch:
    """Tokens of E experts that stand side by side, n for each.

    Parameters
    ----------
    experts
        Which experts.
    tokens
        (E, n) int64 tokens; an expert with fewer is padded with others.
    weights
        (E, n, 1) weight of each, 0 for those that fill up.
    """

    experts: slice
    tokens: Tensor
    weights: Tensor

    def gather(self, values: Tensor) -> Tensor:
        """Return the (E, n, columns) rows of a (T, columns) tensor that belong to the tokens."""
        return values[self.tokens]

    def scatter_add(self, values: Tensor, total: Tensor) -> None:
        """Add (E, n, columns) rows to those of the tokens in a (T, columns) tensor."""
        add_to_tokens(total, self.tokens, values.flatten(0, 1))


def add_to_tokens(total: Tensor, tokens: Tensor, values: Tensor) -> None:
    """Add (n, columns) rows to those of n tokens in a (T, columns) tensor, in place."""
    values = values.to(total.dtype)
    if len(total) == 1:  # what a chat waits for: one token at a time
        total.add_(values if len(values) == 1 else values.sum(dim=0))
    else:
        total.index_add_(0, tokens.flatten(), values)


def batches(index: Tensor, weights: Tensor, *, num_experts: int, max_experts: int) -> Iterator[Batch]:
    """Yield every expert that a token selects, in batches.

    Parameters
    ----------
    index
        (T, k) int64 experts of each token; an index of `num_experts` or more stands for none.
    weights
        (T, k) weights.
    num_experts
        N.
    max_experts
        Experts of a batch at most.
    """
    selected = index.flatten().clamp(max=num_experts)
    order = selected.argsort(stable=True)
    counts = selected.bincount(minlength=num_experts + 1)[:num_experts].tolist()
    starts = [0, *accumulate(counts)]
    shares = weights.flatten()
    for experts in spans(counts, max_experts):
        sizes = counts[experts]
        if len(sizes) == 1:
            places = order[None, starts[experts.start] : starts[experts.stop]]
            yield Batch(experts, places // index.shape[1], shares[places, None])
            continue
        steps = torch.arange(max(sizes), device=index.device)
        first, filled = torch.tensor([starts[experts], sizes], device=index.device)[:, :, None]
        places = order[(first + steps).clamp(max=len(order) - 1)]
        yield Batch(experts, places // index.shape[1], (shares[places] * (steps < filled))[:, :, None])


def spans(counts: Sequence[int], max_experts: int) -> Iterator[slice]:
    """Yield at most `max_experts` neighbours at a time whose counts are near enough to be filled up to the largest.

    Parameters
    ----------
    counts
        Tokens of each expert; those without any are left out where they stand alone.
    max_experts
        Length of a span at most.
    """

    def split(start: int, stop: int) -> Iterator[slice]:
        total, largest = sum(counts[start:stop]), max(counts[start:stop])
        if total and (stop - start == 1 or (stop - start) * largest <= _PADDING * total):
            yield slice(start, stop)
        elif total:
            middle = (start + stop) // 2
            yield from split(start, middle)
            yield from split(middle, stop)

    for start in range(0, len(counts), max_experts):
        yield from split(start, min(start + max_experts, len(counts)))
