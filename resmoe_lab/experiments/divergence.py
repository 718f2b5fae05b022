"""Divergence of a compressed model's predictions from the original's, and texts that both generate."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from .._core.deprecation import renamed_arguments
from .._core.errors import UsageError
from .._core.params import KEEP
from .._core.progress import Progress, silent, tracked
from ..checkpoint import Checkpoint
from ..scoring.calibration import calibration_requests
from ..scoring.decoder import decoder_of
from ..scoring.likelihood import Request, model_inputs
from ..scoring.readout import logits_of
from .runner import EqualBy, VariantRunner
from .variants import ORIGINAL

#: Text and tokens on which predictions are compared, and the prompts of the generated texts.
TEXT, TOKENS = "storyworld_perplexity", 4096
PROMPTS = ("One morning", "The history of the city", "It was the best of times,")
NEW_TOKENS = 40


@dataclass(frozen=True)
class Divergence:
    """Divergence of a model's predictions from the original's on the same text.

    Parameters
    ----------
    kl, kl_stderr
        Mean over tokens of KL(original || other) in nats, and its standard error over windows.
    agreement, agreement_stderr
        Share of the positions at which both have the same likeliest token, and its standard error over windows.
    tokens
        How many tokens were predicted.
    """

    kl: float
    kl_stderr: float
    agreement: float
    agreement_stderr: float
    tokens: int


@torch.no_grad()
def predicting_states(model: Any, requests: Sequence[Request]) -> list[torch.Tensor]:
    """Return the last hidden states (tokens, p) from which a model predicts each request's continuation.

    Its logits follow from them, and they are a hundredth of the logits' size.
    """
    states = []
    for request in requests:
        inputs = model_inputs(model, request)
        if model.config.is_encoder_decoder:
            output = model(**inputs, output_hidden_states=True, use_cache=False)
            hidden = output.decoder_hidden_states[-1]
        else:
            hidden = decoder_of(model)(input_ids=inputs["input_ids"][:, :-1], use_cache=False).last_hidden_state
        states.append(hidden[0, -len(request.continuation) :])
    return states


@torch.no_grad()
def divergence(model: Any, original: Sequence[torch.Tensor], other: Sequence[torch.Tensor]) -> Divergence:
    """Compare predictions that follow from two lists of hidden states of one text.

    Parameters
    ----------
    model
        What lies between states and logits, its output embeddings for one, is never compressed.
    original, other
        As :func:`predicting_states` returns them.
    """
    rows = []
    for before, after in zip(original, other, strict=True):
        p, q = (logits_of(model, states).float().log_softmax(dim=-1) for states in (before, after))
        kl = (p.exp() * (p - q)).sum(dim=-1).double().sum()
        rows.append((float(kl), int((p.argmax(-1) == q.argmax(-1)).sum()), len(before)))
    sums = np.array(rows, dtype=np.float64)
    means = sums[:, :2].sum(axis=0) / sums[:, 2].sum()
    n = len(sums)
    errors = np.full(2, math.nan)
    if n > 1:
        errors = (sums[:, :2] - means * sums[:, 2:]).std(axis=0, ddof=1) / (sums[:, 2].mean() * math.sqrt(n))
    return Divergence(float(means[0]), float(errors[0]), float(means[1]), float(errors[1]), int(sums[:, 2].sum()))


@renamed_arguments(calibrate="calibration")
def divergence_of_methods(
    checkpoint: Checkpoint,
    *,
    methods: Sequence[str],
    keep: float = KEEP.default,
    equal: EqualBy = "keep",
    text: str = TEXT,
    tokens: int = TOKENS,
    data_dir: str | Path | None = None,
    progress: Progress = silent,
    **options: Any,
) -> pd.DataFrame:
    """Tabulate how far each method moves the model's predictions.

    Parameters
    ----------
    checkpoint, methods, keep, equal
        What is compared: see :meth:`~.runner.VariantRunner.variants`.
    text, tokens, data_dir
        A task of running text, and how many tokens of it are predicted.
    progress
        Called after every method.
    options
        ``layers``, ``center``, ``calibration``, ``seed``, ``device``: see :class:`~.runner.VariantRunner`.

    Returns
    -------
    pandas.DataFrame
        Columns ``method, center, keep, kl, kl_stderr, agreement, agreement_stderr, tokens``.
    """
    rows: list[dict[str, Any]] = []
    with VariantRunner(checkpoint, data_dir=data_dir, progress=progress, **options) as runner:
        variants = runner.variants(methods, keep=keep, equal=equal)
        requests = calibration_requests(*runner.loaded, text=text, tokens=tokens, data_dir=data_dir)
        original: list[torch.Tensor] = []
        for variant in tracked(variants, "divergence", progress):
            with runner.running(variant) as (model, _):
                states = predicting_states(model, requests)
            original = original or states
            if variant.method != ORIGINAL:
                result = divergence(model, original, states)
                rows.append({"method": variant.method, "center": variant.center, "keep": variant.keep, **vars(result)})
    return pd.DataFrame(rows)


@renamed_arguments(calibrate="calibration")
def generate_side_by_side(
    checkpoint: Checkpoint,
    *,
    methods: Sequence[str],
    keep: float = KEEP.default,
    equal: EqualBy = "keep",
    prompts: Sequence[str] = PROMPTS,
    new_tokens: int = NEW_TOKENS,
    progress: Progress = silent,
    **options: Any,
) -> pd.DataFrame:
    """Let the original and each method continue the same prompts, greedily.

    Parameters
    ----------
    checkpoint, methods, keep, equal, options
        As for :func:`divergence_of_methods`.
    prompts
        Beginnings of texts.
    new_tokens
        How many tokens each writes at most.
    progress
        Called after every method.

    Returns
    -------
    pandas.DataFrame
        Columns ``prompt, method, text`` and ``same``: how many tokens at the beginning are the original's own.
    """
    if new_tokens < 1:
        raise UsageError(f"{new_tokens} new tokens, expected a positive whole number")
    original: dict[str, list[int]] = {}
    rows = []
    with VariantRunner(checkpoint, progress=progress, **options) as runner:
        for variant in tracked(runner.variants(methods, keep=keep, equal=equal), "generation", progress):
            with runner.running(variant) as (model, tokenizer):
                for prompt in prompts:
                    tokens = generate_tokens(model, tokenizer, prompt, new_tokens)
                    reference = original.setdefault(prompt, tokens)
                    equal_pairs = takewhile(lambda pair: pair[0] == pair[1], zip(reference, tokens, strict=False))
                    same = sum(1 for _ in equal_pairs)
                    rows.append((prompt, variant.method, tokenizer.decode(tokens, skip_special_tokens=True), same))
    return pd.DataFrame(rows, columns=["prompt", "method", "text", "same"])


@torch.no_grad()
def generate_tokens(model: Any, tokenizer: Any, prompt: str, new_tokens: int) -> list[int]:
    """Return the tokens of greedy decoding after a prompt, without an encoder-decoder's start token."""
    inputs = torch.tensor([tokenizer(prompt)["input_ids"]], device=model.device)
    end = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
    options: dict[str, Any] = {"max_new_tokens": new_tokens, "do_sample": False, "pad_token_id": end}
    output = model.generate(inputs, attention_mask=torch.ones_like(inputs), **options)[0].tolist()
    return output[1 if model.config.is_encoder_decoder else inputs.shape[1] :]
