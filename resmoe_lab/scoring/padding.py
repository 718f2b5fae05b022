"""Padding of token sequences, and the tokens of an answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def pad_rows(rows: Sequence[Sequence[int]], device: Any, *, value: int = 0) -> torch.Tensor:
    """Return rows of tokens as one (B, T) int64 tensor, padded on the right."""
    tensors = [torch.tensor(row, dtype=torch.int64) for row in rows]
    return torch.nn.utils.rnn.pad_sequence(tensors, batch_first=True, padding_value=float(value)).to(device)


def answer_tokens(tokenizer: PreTrainedTokenizerBase, answer: str) -> list[int]:
    """Return the tokens that a decoder generates for an answer, without special tokens."""
    tokens: list[int] = tokenizer(answer, add_special_tokens=False)["input_ids"]
    return tokens
