"""Fine-tuning of an encoder as a classifier of texts or pairs of texts, with a linear head, and its answers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .._core.errors import UsageError
from .._core.progress import Progress, silent
from ..scoring.padding import pad_rows
from .finetuning import FineTuning, train_steps
from .loop import load_balance
from .upcycled_encoder import RoutedFeedForward, routed_blocks

if TYPE_CHECKING:
    from transformers import BertModel, PreTrainedTokenizerBase

#: Encoded texts: tokens, and which of two texts each token is of.
Row = tuple[list[int], list[int]]
#: Batches whose rows are sorted by length together, so that little is padding.
_SORTED_BATCHES = 20
#: Batches are padded to a multiple of so many tokens: kernels of 16 bit products are made anew for every length.
_TOKENS = 8
#: Rows of a batch of which only the answers are wanted.
_ANSWERED_ROWS = 64


class SentenceClassifier(nn.Module):
    """An encoder with a linear head on the mean of its last hidden states.

    Parameters
    ----------
    encoder
        The encoder.
    num_labels
        How many labels there are.
    """

    def __init__(self, encoder: BertModel, num_labels: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.dropout = nn.Dropout(encoder.config.hidden_dropout_prob)
        self.head = nn.Linear(encoder.config.hidden_size, num_labels)

    def forward(self, **batch: Tensor) -> Tensor:
        """Return the (B, labels) logits of what the encoder takes."""
        return self.classify(self.encoder(**batch).last_hidden_state, batch["attention_mask"])

    def classify(self, hidden: Tensor, mask: Tensor) -> Tensor:
        """Return the (B, labels) logits of (B, T, p) last hidden states, of which a (B, T) mask tells what is text."""
        weights = mask[..., None].to(hidden.dtype)
        logits: Tensor = self.head(self.dropout((hidden * weights).sum(dim=1) / weights.sum(dim=1)))
        return logits


def encode_rows(
    tokenizer: PreTrainedTokenizerBase, texts: Sequence[Sequence[str]], *, window: int = FineTuning.window
) -> list[Row]:
    """Encode texts, or pairs of texts, cut off after `window` tokens."""
    encoded = [tokenizer(*row, truncation=True, max_length=window, return_token_type_ids=True) for row in texts]
    return [(row["input_ids"], row["token_type_ids"]) for row in encoded]


def batch_of(rows: Sequence[Row], device: Any = "cpu") -> dict[str, Tensor]:
    """Return encoded rows as an encoder takes them, padded on the right; a single row is not padded."""
    parts = {
        "input_ids": [tokens for tokens, _ in rows],
        "token_type_ids": [types for _, types in rows],
        "attention_mask": [[1] * len(tokens) for tokens, _ in rows],
    }
    batch = {name: pad_rows(part, device) for name, part in parts.items()}
    missing = -batch["input_ids"].shape[1] % _TOKENS if len(rows) > 1 else 0
    return {name: F.pad(part, (0, missing)) for name, part in batch.items()}


def fine_tune_classifier(
    model: SentenceClassifier,
    rows: Sequence[Row],
    labels: Sequence[int],
    *,
    settings: FineTuning,
    balance: float = 0.0,
    precision: torch.dtype = torch.float32,
    progress: Progress = silent,
) -> list[float]:
    """Train a classifier, in place: every weight but the word embeddings, of which few rows move the fewest.

    Parameters
    ----------
    model
        What is trained; it ends in evaluation mode.
    rows, labels
        What it learns.
    settings
        Learning rate, epochs and the rest.
    balance
        Weight of :func:`~.loop.load_balance` of its routers, where it has any.
    precision
        What products are computed in; weights stay in float32.
    progress
        Called after every step; raising from it stops and leaves the model as it is then.

    Returns
    -------
    list of float
        The cross-entropy and balancing loss of every step.

    Raises
    ------
    UsageError
        If there are fewer rows than a batch holds.
    """
    if len(rows) < settings.batch_size:
        raise UsageError(f"{len(rows)} rows, expected at least a batch of {settings.batch_size}")
    targets, device = torch.tensor(labels), next(model.parameters()).device

    def loss(numbers: np.ndarray) -> Tensor:
        batch = batch_of([rows[number] for number in numbers], device)
        with _recorded_logits(routed_blocks(model.encoder)) as recorded, _products_in(precision, device):
            logits = model(**batch)
        found = F.cross_entropy(logits.float(), targets[numbers].to(device))
        if balance and recorded:
            options: dict[str, Any] = {"counted": batch["attention_mask"].float(), "top_k": recorded[0][1]}
            found = found + balance * torch.stack([load_balance(each, **options) for each, _ in recorded]).mean()
        return found

    steps = len(rows) // settings.batch_size * settings.epochs
    orders = _epochs([len(tokens) for tokens, _ in rows], settings)
    losses = (partial(loss, numbers) for numbers in orders)
    embeddings: Any = model.encoder.get_input_embeddings()
    return train_steps(model, losses, steps, settings=settings, frozen=[embeddings.weight], progress=progress)


def _epochs(lengths: Sequence[int], settings: FineTuning) -> Iterator[np.ndarray]:
    """Yield the numbers of the rows of every batch; those of similar length together, an incomplete batch dropped."""
    rng, size = np.random.default_rng(settings.seed), settings.batch_size
    for _ in range(settings.epochs):
        order = rng.permutation(len(lengths))[: len(lengths) // size * size]
        pools = [
            order[begin : begin + size * _SORTED_BATCHES] for begin in range(0, len(order), size * _SORTED_BATCHES)
        ]
        ordered = np.concatenate([sorted(pool, key=lengths.__getitem__) for pool in pools]).reshape(-1, size)
        yield from rng.permutation(ordered)


@contextmanager
def _recorded_logits(blocks: Sequence[RoutedFeedForward]) -> Iterator[list[tuple[Tensor, int]]]:
    """Collect the (B, T, N) router logits of blocks, each with its top_k, while the block runs."""
    recorded: list[tuple[Tensor, int]] = []
    hooks = [
        block.gate.register_forward_hook(lambda module, args, out, k=block.top_k: recorded.append((out, k)))
        for block in blocks
    ]
    try:
        yield recorded
    finally:
        for hook in hooks:
            hook.remove()


def _products_in(precision: torch.dtype, device: torch.device) -> torch.autocast:
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == torch.bfloat16)


class Answers:
    """The answers of a classifier to rows, again and again with other weights from some layer on.

    Parameters
    ----------
    model
        The classifier, in evaluation mode.
    rows
        What it answers.
    first
        The lowest layer whose weights may change: what enters it is computed once.
    precision
        As for :func:`fine_tune_classifier`.
    """

    @torch.no_grad()
    def __init__(
        self, model: SentenceClassifier, rows: Sequence[Row], *, first: int, precision: torch.dtype = torch.float32
    ) -> None:
        self._model, self._first, self._precision = model, first, precision
        self._device = next(model.parameters()).device
        self._order = np.array(sorted(range(len(rows)), key=lambda number: len(rows[number][0])))
        self._states: list[tuple[Tensor, Tensor | None, Tensor]] = []
        layer: Any = model.encoder.encoder.layer[first]
        for begin in range(0, len(rows), _ANSWERED_ROWS):
            batch = batch_of([rows[number] for number in self._order[begin : begin + _ANSWERED_ROWS]], self._device)
            entered: list[tuple[Tensor, Tensor | None]] = []
            hook = layer.register_forward_pre_hook(lambda module, args, seen=entered: seen.append((args[0], args[1])))
            with _products_in(precision, self._device):
                model(**batch)
            hook.remove()
            self._states.append((*entered[0], batch["attention_mask"]))

    @torch.no_grad()
    def __call__(self) -> np.ndarray:
        """Return the (n,) int64 labels that the model gives with its present weights."""
        answers = np.empty(len(self._order), dtype=np.int64)
        begin = 0
        for hidden, attended, mask in self._states:
            with _products_in(self._precision, self._device):
                for layer in self._model.encoder.encoder.layer[self._first :]:
                    hidden = layer(hidden, attended)
                logits = self._model.classify(hidden, mask)
            answers[self._order[begin : begin + len(logits)]] = logits.argmax(dim=-1).cpu().numpy()
            begin += len(logits)
        return answers
