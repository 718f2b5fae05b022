"""What a model loses without one of its experts, or with the center in its place."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from .._core.errors import UsageError
from .._core.progress import Progress, Tick, silent
from ..experts import Family
from ..scoring.activation_cache import cached_activations
from ..scoring.calibration import calibration_requests, passage_requests
from ..scoring.likelihood import Request
from ..scoring.readout import logits_of
from ..scoring.traces import trace_tokens
from .divergence import TEXT, predicting_states
from .runner import VariantRunner

#: What may stand in an expert's place: nothing, so that it adds zero, or the center of its layer.
Replacement = Literal["off", "center"]
#: How many tokens are predicted by default.
TOKENS = 1024
COLUMNS = ("layer", "expert", "replaced_by", "share", "kl", "perplexity", "original_perplexity")


def ablate_experts(
    runner: VariantRunner,
    *,
    layers: Sequence[int] | None = None,
    replaced_by: Sequence[Replacement] = ("off",),
    text: str = TEXT,
    passage: str = "",
    tokens: int = TOKENS,
    data_dir: str | Path | None = None,
    progress: Progress = silent,
) -> pd.DataFrame:
    """Take every expert away, one at a time, and measure what the model loses.

    An expert that is off adds nothing where the router selects it; the weights of the others stay as they are. Layers
    below the expert's run once: their activations are kept on disk meanwhile.

    Parameters
    ----------
    runner
        The model and its centers, in its ``with`` block.
    layers
        Whose experts; those of the runner if not given.
    replaced_by
        ``"off"``, ``"center"`` or both.
    text, tokens, data_dir
        A task of running text, and how many of its tokens are predicted.
    passage
        A text of the user's own, which is predicted instead.
    progress
        Called before every expert; raising from it cancels.

    Returns
    -------
    pandas.DataFrame
        Columns ``layer, expert, replaced_by, share`` (of the text's choices of an expert in that layer that are this
        one), ``kl`` (of the original's predictions to those without it, in nats a token), ``perplexity,
        original_perplexity``.

    Raises
    ------
    UsageError
        If a replacement or a layer does not exist, or the passage has less than two tokens.
    """
    for name in replaced_by:
        if name not in ("off", "center"):
            raise UsageError(f"an expert is replaced by {name!r}, expected 'off' or 'center'")
    layers = list(runner.layers if layers is None else layers)
    runner.family.check_layers(runner.checkpoint, layers)
    model, tokenizer = runner.loaded
    if passage:
        requests = passage_requests(model, tokenizer, passage, tokens=tokens)
    else:
        requests = calibration_requests(model, tokenizer, text=text, tokens=tokens, data_dir=data_dir)
    original = predicting_states(model, requests)
    before = _perplexity(model, requests, original)
    shares = _shares(model, runner.family, requests, layers)
    rows, done = list[tuple[Any, ...]](), 0
    total = len(layers) * runner.family.layer_shape().num_experts * len(replaced_by)
    for layer in layers:
        own = runner.family.from_model(model, layer)
        centers = {"off": torch.zeros_like(own.weights[0])}
        if "center" in replaced_by:
            centers["center"] = runner.center(layer).expert(0).to(own.weights)
        # Each layer has activations of its own to begin with.
        with runner.activation_folder(layer) as folder, cached_activations(model, first=layer, folder=folder):
            for name in replaced_by:
                for expert in range(own.num_experts):
                    progress(Tick("experts taken away", done, total, {"layer": layer, "expert": expert}))
                    with _replaced(model, runner.family, layer, expert, centers[name], own.weights[expert]):
                        states = predicting_states(model, requests)
                    kl, perplexity = _compared(model, requests, original, states)
                    rows.append((layer, expert, name, shares[layer][expert], kl, perplexity, before))
                    done += 1
    progress(Tick("experts taken away", total, total))
    return pd.DataFrame(rows, columns=list(COLUMNS))


@contextmanager
def _replaced(model: Any, family: Family, layer: int, expert: int, weights: Tensor, own: Tensor) -> Iterator[None]:
    """Run with other weights in an expert's place, and put its own back."""
    family.expert_to_model(model, layer, expert, weights)
    try:
        yield
    finally:
        family.expert_to_model(model, layer, expert, own)


def _shares(model: Any, family: Family, requests: Sequence[Request], layers: Sequence[int]) -> dict[int, np.ndarray]:
    """Share of a layer's choices of experts that are each of them."""
    count = family.layer_shape().num_experts
    counts = {layer: np.zeros(count) for layer in layers}
    for request in requests:
        for layer, routing in trace_tokens(model, family, request, layers=layers).routing.items():
            chosen = routing.experts[routing.experts >= 0]
            counts[layer] += np.bincount(chosen.numpy(), minlength=count)
    return {layer: values / max(1.0, values.sum()) for layer, values in counts.items()}


@torch.no_grad()
def _compared(
    model: Any, requests: Sequence[Request], original: Sequence[Tensor], states: Sequence[Tensor]
) -> tuple[float, float]:
    """KL to the original in nats a token, and perplexity."""
    kl = loss = 0.0
    tokens = 0
    for request, before, after in zip(requests, original, states, strict=True):
        p, q = (logits_of(model, state).float().log_softmax(-1) for state in (before, after))
        kl += float((p.exp() * (p - q)).sum(-1).double().sum())
        following = torch.tensor(request.continuation, device=q.device)
        loss -= float(q.gather(1, following[:, None]).double().sum())
        tokens += len(following)
    return kl / tokens, math.exp(loss / tokens)


def _perplexity(model: Any, requests: Sequence[Request], states: Sequence[Tensor]) -> float:
    return _compared(model, requests, states, states)[1]
