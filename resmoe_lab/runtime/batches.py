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
        (E, n) int64 tokens; an expert that has fewer is given others to fill up.
    weights
        (E, n, 1) weight of each, 0 for those that fill up.
    """

    experts: slice
    tokens: Tensor
    weights: Tensor

    def take(self, values: Tensor) -> Tensor:
        """Return the (E, n, columns) rows of a (T, columns) tensor that belong to the tokens."""
        return values[self.tokens]

    def give(self, values: Tensor, total: Tensor) -> None:
        """Add (E, n, columns) rows to those of the tokens in a (T, columns) tensor."""
        add_to_tokens(total, self.tokens, values.flatten(0, 1))


def add_to_tokens(total: Tensor, tokens: Tensor, values: Tensor) -> None:
    """Add (n, columns) rows to those of n tokens in a (T, columns) tensor, in place."""
    values = values.to(total.dtype)
    if len(total) == 1:  # what a chat waits for: one token at a time
        total.add_(values if len(values) == 1 else values.sum(dim=0))
    else:
        total.index_add_(0, tokens.flatten(), values)


def batches(index: Tensor, weights: Tensor, *, num_experts: int, most: int) -> Iterator[Batch]:
    """Yield every expert that a token selects, in batches.

    Parameters
    ----------
    index
        (T, k) int64 experts of each token; an index of `num_experts` or more stands for none.
    weights
        (T, k) weights.
    num_experts
        N.
    most
        Experts of a batch at most.
    """
    chosen = index.flatten().clamp(max=num_experts)
    order = chosen.argsort(stable=True)
    counts = chosen.bincount(minlength=num_experts + 1)[:num_experts].tolist()
    starts = [0, *accumulate(counts)]
    shares = weights.flatten()
    for experts in spans(counts, most):
        own = counts[experts]
        if len(own) == 1:
            places = order[None, starts[experts.start] : starts[experts.stop]]
            yield Batch(experts, places // index.shape[1], shares[places, None])
            continue
        steps = torch.arange(max(own), device=index.device)
        first, held = torch.tensor([starts[experts], own], device=index.device)[:, :, None]
        places = order[(first + steps).clamp(max=len(order) - 1)]
        yield Batch(experts, places // index.shape[1], (shares[places] * (steps < held))[:, :, None])


def spans(counts: Sequence[int], most: int) -> Iterator[slice]:
    """Yield neighbours whose counts are alike enough to be filled up to the largest, no more than `most` of them.

    Parameters
    ----------
    counts
        Tokens of each expert; those without any are left out where they stand alone.
    most
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

    for start in range(0, len(counts), most):
        yield from split(start, min(start + most, len(counts)))
