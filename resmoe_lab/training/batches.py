"""From documents to training batches, for decoders and for encoder-decoders."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ..zoo.recipes import Phase
from .tokenizer import BOS_ID, EOS_ID

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

Batch = dict[str, Any]

#: The label of a position that is not predicted, as transformers has it.
IGNORED = -100


def encode(tokenizer: PreTrainedTokenizerFast, documents: list[str]) -> np.ndarray:
    """Encode documents into one row of uint16 tokens, each document between ``<s>`` and ``</s>``."""
    encodings = tokenizer(documents, verbose=False)["input_ids"]
    return np.concatenate([np.asarray([*ids, tokenizer.eos_token_id], dtype=np.uint16) for ids in encodings])


def causal_batches(phase: Phase, *, tokens: dict[str, np.ndarray], length: int, seed: int) -> Iterator[Batch]:
    """Endless batches for a decoder: rows of `length` tokens, whose documents do not attend to each other.

    Parameters
    ----------
    phase
        Decides the sources and the rows of a batch.
    tokens
        The encoded text of each source.
    length
        Tokens of a row.
    seed
        The same seed gives the same batches.
    """
    sequences = sample_sequences(phase, tokens=tokens, length=length, seed=seed)
    while True:
        rows = torch.stack(list(islice(sequences, phase.batch_size)))
        positions = document_positions(rows, bos=BOS_ID)
        yield {"input_ids": rows, "labels": rows, "position_ids": positions, "use_cache": False}


def paired_batches(phase: Phase, *, tokens: dict[str, np.ndarray], length: int, seed: int) -> Iterator[Batch]:
    """Endless batches for an encoder-decoder: documents cut at random into input and labels.

    Most cuts are early, since only labels are learned from. Inputs end with the end token, by which a decoder finds
    where they stop: cross-attention knows no positions.

    Parameters are those of :func:`causal_batches`; a document longer than `length` tokens loses its end.
    """
    rng = np.random.default_rng([seed, 1])
    sequences = sample_sequences(phase, tokens=tokens, length=length, seed=seed)
    while True:
        pairs = []
        for row in islice(sequences, phase.batch_size):
            ends = (row[1:] == BOS_ID).nonzero()
            document = row[: int(ends[0]) + 1] if len(ends) else row
            cut = 1 + int((len(document) - 1) * rng.random() ** 2)
            pairs.append((torch.cat([document[:cut], torch.tensor([EOS_ID])]), document[cut:]))
        inputs = torch.nn.utils.rnn.pad_sequence([pair[0] for pair in pairs], batch_first=True)
        mask = torch.nn.utils.rnn.pad_sequence([torch.ones_like(pair[0]) for pair in pairs], batch_first=True)
        labels = torch.nn.utils.rnn.pad_sequence(
            [pair[1] for pair in pairs], batch_first=True, padding_value=float(IGNORED)
        )
        yield {"input_ids": inputs, "attention_mask": mask, "labels": labels}


def sample_sequences(phase: Phase, *, tokens: dict[str, np.ndarray], length: int, seed: int) -> Iterator[torch.Tensor]:
    """Endless (length,) int64 sequences, each from one source, from the beginning of a random document on."""
    rng = np.random.default_rng(seed)
    names = list(phase.source_weights)
    weights = np.array([phase.source_weights[name] for name in names])
    starts = {name: np.flatnonzero(text[: len(text) - length] == BOS_ID) for name, text in tokens.items()}
    while True:
        name = names[rng.choice(len(names), p=weights / weights.sum())]
        start = rng.choice(starts[name])
        yield torch.from_numpy(tokens[name][start : start + length].astype(np.int64))


def document_positions(tokens: torch.Tensor, *, bos: int) -> torch.Tensor:
    """Positions that start again at every ``<s>``, by which transformers keeps documents from seeing each other.

    With attention to neighbouring stories, training would take many times as long.
    """
    places = torch.arange(tokens.shape[1], device=tokens.device).expand_as(tokens)
    return places - torch.where(tokens == bos, places, 0).cummax(dim=1).values
