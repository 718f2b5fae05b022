"""Supervised fine-tuning of an encoder-decoder on pairs of texts, with the published settings."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from .._core.errors import UsageError
from .._core.progress import Progress, Tick, silent
from ..scoring.padding import answer_tokens, pad_rows
from .batches import IGNORED, Batch

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

Pair = tuple[str, str]


@dataclass(frozen=True)
class FineTuning:
    """Settings of a fine-tuning.

    Parameters
    ----------
    learning_rate, batch_size, epochs
        The paper searches 1e-5 to 1e-3, 16 to 64 and 3 to 20; the defaults are within these ranges.
    betas, epsilon, warmup_steps, weight_decay
        AdamW's, the same for all data sets; after the warm-up the learning rate falls linearly to zero.
    window
        Longest text in tokens; the rest is cut off.
    seed
        For the order of the rows and for dropout.

    References
    ----------
    ResMoE, appendix A.1 and Table 1.
    """

    learning_rate: float = 3e-4
    batch_size: int = 32
    epochs: int = 3
    betas: tuple[float, float] = (0.9, 0.98)
    epsilon: float = 1e-8
    warmup_steps: int = 8
    weight_decay: float = 0.01
    window: int = 128
    seed: int = 0

    def learning_rate_at(self, step: int, steps: int) -> float:
        """Return the learning rate at a step."""
        warmup = (step + 1) / self.warmup_steps
        decay = (steps - step) / max(1, steps - self.warmup_steps)
        return self.learning_rate * min(1.0, warmup, decay)


def fine_tune(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    pairs: Sequence[Pair],
    *,
    settings: FineTuning | None = None,
    progress: Progress = silent,
) -> list[float]:
    """Train an encoder-decoder, in place, to generate the second text of each pair from the first.

    Parameters
    ----------
    model, tokenizer
        What is trained; every weight is.
    pairs
        Inputs and targets.
    settings
        The defaults if not given.
    progress
        Called after every step; raising from it stops and leaves the model as it is then.

    Returns
    -------
    list of float
        The loss of every step, in nats per token.

    Raises
    ------
    UsageError
        If the model has no encoder, or there are fewer pairs than a batch holds.
    """
    settings = settings or FineTuning()
    if not model.config.is_encoder_decoder:
        raise UsageError(f"{type(model).__name__} has no encoder, expected an encoder-decoder such as Switch")
    if len(pairs) < settings.batch_size:
        raise UsageError(f"{len(pairs)} pairs, expected at least a batch of {settings.batch_size}")
    steps = len(pairs) // settings.batch_size * settings.epochs
    batches = _batches(model, tokenizer, pairs, settings)
    losses = (lambda batch=batch: model(**batch).loss for batch in batches)
    return train_steps(model, losses, steps, settings=settings, progress=progress)


def train_steps(
    model: torch.nn.Module,
    losses: Iterable[Callable[[], torch.Tensor]],
    steps: int,
    *,
    settings: FineTuning,
    frozen: Sequence[torch.nn.Parameter] = (),
    progress: Progress = silent,
) -> list[float]:
    """Train a model, in place, with the optimizer of the settings; it ends in evaluation mode.

    Parameters
    ----------
    model
        What is trained.
    losses
        Computes the loss of each step.
    steps
        How many there are.
    settings, progress
        As for :func:`fine_tune`.
    frozen
        Weights that stay as they are.

    Returns
    -------
    list of float
        The loss of every step.
    """
    torch.manual_seed(settings.seed)
    model.train().requires_grad_(True)
    for weight in frozen:
        weight.requires_grad_(False)
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    decay = [weight for weight in trained if weight.ndim >= 2]
    no_decay = [weight for weight in trained if weight.ndim < 2]
    groups = [{"params": decay, "weight_decay": settings.weight_decay}, {"params": no_decay, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=0.0, betas=settings.betas, eps=settings.epsilon, fused=True)
    found = []
    for step, compute in enumerate(losses):
        for group in optimizer.param_groups:
            group["lr"] = settings.learning_rate_at(step, steps)
        loss = compute()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        found.append(float(loss.detach()))
        progress(Tick("fine-tune", step + 1, steps, {"loss": found[-1]}))
    model.eval().requires_grad_(False)
    return found


def _batches(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, pairs: Sequence[Pair], settings: FineTuning
) -> Iterator[Batch]:
    """Yield every epoch's batches in a random order of its own; an incomplete last batch is dropped."""
    end = model.config.eos_token_id
    tail = [] if end is None else [end]
    encoded = [
        ([*tokenizer(text)["input_ids"][: settings.window - 1], *tail], answer_tokens(tokenizer, answer) + tail)
        for text, answer in pairs
    ]
    rng = np.random.default_rng(settings.seed)
    for _ in range(settings.epochs):
        order = rng.permutation(len(encoded))
        for begin in range(0, len(order) - settings.batch_size + 1, settings.batch_size):
            rows = [encoded[i] for i in order[begin : begin + settings.batch_size]]
            yield _batch(rows, model.device)


def _batch(rows: Sequence[tuple[list[int], list[int]]], device: Any) -> Batch:
    return {
        "input_ids": pad_rows([row for row, _ in rows], device),
        "attention_mask": pad_rows([[1] * len(row) for row, _ in rows], device),
        "labels": pad_rows([row for _, row in rows], device, value=IGNORED),
    }
