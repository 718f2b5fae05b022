"""Requests that begin alike, laid out in one row so that what they share goes through the model once.

A row is the shared prefix and then, one after the other, what follows it in each request. Every token knows its
position in its own request, and a mask keeps it from seeing the other requests' tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch


@dataclass(frozen=True)
class Branch:
    """Where one request's continuation is predicted: places in the row, and the tokens to be predicted there."""

    places: tuple[int, ...]
    targets: tuple[int, ...]


@dataclass(frozen=True)
class Row:
    """One row of a batch.

    Parameters
    ----------
    tokens, positions
        Input tokens and their positions in their own requests.
    owners
        Which branch a token belongs to; -1 for the prefix that all share.
    branches
        One for each request.
    """

    tokens: tuple[int, ...]
    positions: tuple[int, ...]
    owners: tuple[int, ...]
    branches: tuple[Branch, ...]


def lay_out(requests: Sequence[tuple[Sequence[int], int]]) -> Row:
    """Lay requests out in one row.

    Parameters
    ----------
    requests
        Of each, its tokens and how many of them, at the end, are to be predicted.
    """
    shared = _shared_length(requests)
    tokens = list(requests[0][0][:shared])
    positions, owners, branches = list(range(shared)), [-1] * shared, []
    for number, (sequence, count) in enumerate(requests):
        begin, length = len(tokens), len(sequence)
        own = sequence[shared:-1]  # the last token predicts nothing
        tokens += own
        positions += range(shared, shared + len(own))
        owners += [number] * len(own)
        before = range(length - count - 1, length - 1)
        places = tuple(place if place < shared else begin + place - shared for place in before)
        branches.append(Branch(places, tuple(sequence[length - count :])))
    return Row(tuple(tokens), tuple(positions), tuple(owners), tuple(branches))


def _shared_length(requests: Sequence[tuple[Sequence[int], int]]) -> int:
    """How many tokens at the beginning all requests share; what is to be predicted is never among them."""
    if len(requests) == 1:
        return 0
    most = min(len(sequence) - count for sequence, count in requests)
    first = requests[0][0]
    return next((i for i in range(most) if any(sequence[i] != first[i] for sequence, _ in requests)), most)


def batch_inputs(rows: Sequence[Row], *, device: Any, dtype: torch.dtype) -> dict[str, torch.Tensor]:
    """Return a decoder's inputs for rows, padded on the right, where nothing sees the padding.

    Rows of one request each need no mask: a causal model does not look ahead.
    """
    tokens = _padded([row.tokens for row in rows], device)
    if all(len(row.branches) == 1 for row in rows):
        return {"input_ids": tokens}
    owners = _padded([[owner + 1 for owner in row.owners] for row in rows], device)
    length = tokens.shape[1]
    causal = torch.ones(length, length, dtype=torch.bool, device=device).tril()
    seen = causal & ((owners[:, None, :] == 0) | (owners[:, None, :] == owners[:, :, None]))
    mask = torch.zeros(seen.shape, dtype=dtype, device=device).masked_fill(~seen, torch.finfo(dtype).min)
    positions = _padded([row.positions for row in rows], device)
    return {"input_ids": tokens, "position_ids": positions, "attention_mask": mask[:, None]}


def _padded(rows: Sequence[Sequence[int]], device: Any) -> torch.Tensor:
    return torch.nn.utils.rnn.pad_sequence([torch.tensor(row) for row in rows], batch_first=True).to(device)


def sees_everything(config: Any) -> bool:
    """Whether every layer of a model sees all tokens before: a mask of ours would undo a sliding window."""
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    return kinds == {"full_attention"} and not getattr(config, "sliding_window", None)
