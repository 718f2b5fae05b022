"""Token rows of different lengths as one tensor, and the tokens of an answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def padded(rows: Sequence[Sequence[int]], value: int, device: Any) -> torch.Tensor:
    """Rows of tokens as one (B, T) tensor, filled up on the right."""
    tensors = [torch.tensor(row) for row in rows]
    return torch.nn.utils.rnn.pad_sequence(tensors, batch_first=True, padding_value=float(value)).to(device)


def answer_tokens(tokenizer: PreTrainedTokenizerBase, answer: str) -> list[int]:
    """What a decoder writes for an answer: its tokens alone."""
    tokens: list[int] = tokenizer(answer, add_special_tokens=False)["input_ids"]
    return tokens
