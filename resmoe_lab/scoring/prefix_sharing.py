"""Prefix sharing: requests with a common prefix, packed into one row so that the prefix goes through the model once.

A row is the shared prefix and then, one after the other, what follows it in each request. Every token has its position
in its own request, and a mask hides the other requests' tokens from it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from .padding import pad_rows


@dataclass(frozen=True)
class Branch:
    """Where one request's continuation is predicted: indices in the row, and the target token of each."""

    indices: tuple[int, ...]
    targets: tuple[int, ...]


@dataclass(frozen=True)
class PackedRow:
    """One row of a batch.

    Parameters
    ----------
    tokens, positions
        Input tokens and their positions in their own requests.
    branch_ids
        Number of the branch that a token belongs to; -1 for the shared prefix.
    branches
        One for each request.
    """

    tokens: tuple[int, ...]
    positions: tuple[int, ...]
    branch_ids: tuple[int, ...]
    branches: tuple[Branch, ...]


def pack_requests(requests: Sequence[tuple[Sequence[int], int]]) -> PackedRow:
    """Pack requests into one row.

    Parameters
    ----------
    requests
        The tokens of each, and how many of them, at the end, are to be predicted.
    """
    shared = _prefix_length(requests)
    tokens = list(requests[0][0][:shared])
    positions, branch_ids, branches = list(range(shared)), [-1] * shared, []
    for number, (sequence, count) in enumerate(requests):
        begin, length = len(tokens), len(sequence)
        suffix = sequence[shared:-1]  # the last token predicts nothing
        tokens += suffix
        positions += range(shared, shared + len(suffix))
        branch_ids += [number] * len(suffix)
        predicting = range(length - count - 1, length - 1)
        indices = tuple(place if place < shared else begin + place - shared for place in predicting)
        branches.append(Branch(indices, tuple(sequence[length - count :])))
    return PackedRow(tuple(tokens), tuple(positions), tuple(branch_ids), tuple(branches))


def _prefix_length(requests: Sequence[tuple[Sequence[int], int]]) -> int:
    """How many tokens at the beginning all requests share; tokens to be predicted never count."""
    if len(requests) == 1:
        return 0
    longest = min(len(sequence) - count for sequence, count in requests)
    first = requests[0][0]
    return next((i for i in range(longest) if any(sequence[i] != first[i] for sequence, _ in requests)), longest)


def batch_inputs(rows: Sequence[PackedRow], *, device: Any, dtype: torch.dtype) -> dict[str, torch.Tensor]:
    """Return a decoder's inputs for rows, padded on the right, where no token attends to the padding.

    Rows of one request each need no mask: a causal model does not look ahead.
    """
    tokens = pad_rows([row.tokens for row in rows], device)
    if all(len(row.branches) == 1 for row in rows):
        return {"input_ids": tokens}
    branch_ids = pad_rows([[branch + 1 for branch in row.branch_ids] for row in rows], device)
    length = tokens.shape[1]
    causal = torch.ones(length, length, dtype=torch.bool, device=device).tril()
    visible = causal & ((branch_ids[:, None, :] == 0) | (branch_ids[:, None, :] == branch_ids[:, :, None]))
    mask = torch.zeros(visible.shape, dtype=dtype, device=device).masked_fill(~visible, torch.finfo(dtype).min)
    positions = pad_rows([row.positions for row in rows], device)
    return {"input_ids": tokens, "position_ids": positions, "attention_mask": mask[:, None]}


def has_full_attention(config: Any) -> bool:
    """Return whether every layer of a model attends to all earlier tokens: our mask would undo a sliding window."""
    layer_types = set(getattr(config, "layer_types", None) or ["full_attention"])
    return layer_types == {"full_attention"} and not getattr(config, "sliding_window", None)
