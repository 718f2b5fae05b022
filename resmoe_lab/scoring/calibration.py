"""Calibration statistics of a layer's experts: usage, second moments of inputs and activations, Fisher information."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .._core.errors import ResmoeWarning, UsageError
from .._core.progress import Progress, silent, tracked
from ..centers import Statistics
from ..experts import Family
from .expert_recorder import Recorder, recording
from .likelihood import Request, model_inputs, model_window
from .tasks import RUNNING_TEXT, TASKS, Row, find_task
from .zeroshot import text_windows

#: Number of calibration tokens by default.
TOKENS = 4096
#: Calibration text that every checkout has.
TEXT = "storyworld_perplexity"


def calibration_rows(text: str, *, tokens: int = TOKENS, data_dir: str | Path | None = None) -> list[Row]:
    """Return the rows of a calibration text: nothing has to run to know whether there are any.

    Parameters
    ----------
    text, tokens, data_dir
        As for :func:`calibration_requests`.

    Raises
    ------
    UsageError
        If the task is not one of running text, or `tokens` is not positive.
    DataError
        If the text is not found, or its file is damaged.
    """
    task = find_task(text)
    if task.kind not in RUNNING_TEXT:
        names = [name for name in TASKS if TASKS[name].kind in RUNNING_TEXT]
        raise UsageError(f"task {text!r} has no running text to calibrate with, expected one of {', '.join(names)}")
    if tokens < 1:
        raise UsageError(f"{tokens} calibration tokens, expected a positive whole number")
    return task.rows(data_dir=data_dir)


def calibration_requests(
    model: Any, tokenizer: Any, *, text: str = TEXT, tokens: int = TOKENS, data_dir: str | Path | None = None
) -> list[Request]:
    """Cut the beginning of a text into windows that fit a model.

    Parameters
    ----------
    model, tokenizer
        Decide the windows.
    text
        A task whose rows are texts, such as ``"wikitext"``.
    tokens
        How many tokens at least, as far as the text has them.
    data_dir
        Searched first for the text.

    Raises
    ------
    UsageError
        If the task is not one of running text, or `tokens` is not positive.
    DataError
        If the text is not found.
    """
    rows = calibration_rows(text, tokens=tokens, data_dir=data_dir)
    return _windows(model, tokenizer, (row["text"] for row in rows), tokens=tokens)


def passage_requests(model: Any, tokenizer: Any, passage: str, *, tokens: int = TOKENS) -> list[Request]:
    """Cut the beginning of a text of the user's own into windows that fit a model.

    Parameters
    ----------
    model, tokenizer, tokens
        As for :func:`calibration_requests`.
    passage
        The text.

    Raises
    ------
    UsageError
        If nothing in it can be predicted.
    """
    requests = _windows(model, tokenizer, [passage], tokens=tokens)
    if not any(request.continuation for request in requests):
        raise UsageError("the text has no token that can be predicted, expected at least one: type a few words")
    return requests


def _windows(model: Any, tokenizer: Any, texts: Iterable[str], *, tokens: int) -> list[Request]:
    """The windows of some texts, until there are so many tokens."""
    window, halves = model_window(model, tokenizer), bool(model.config.is_encoder_decoder)
    requests: list[Request] = []
    num_tokens = 0
    for text in texts:
        # No more of a book than is needed: a token rarely has more than a few letters.
        for request in text_windows(tokenizer, text[: 20 * tokens], window, halves=halves):
            if num_tokens >= tokens:
                return requests
            requests.append(request)
            num_tokens += len(request.context) + len(request.continuation)
    return requests


def calibrate(
    model: Any,
    family: Family,
    requests: Sequence[Request],
    *,
    layers: Sequence[int],
    source: str = TEXT,
    fisher: bool = False,
    moments: bool = False,
    progress: Progress = silent,
) -> dict[int, Statistics]:
    """Run text through a model and record statistics of the experts of some layers.

    Parameters
    ----------
    model
        A transformers model of the family.
    family
        Knows where its experts are.
    requests
        The text, as :func:`calibration_requests` cuts it.
    layers
        Numbers of the layers.
    source
        The text's name, for reports.
    fisher
        Also the mean squared gradient of the loss by each expert's weights, which takes a backward pass.
    moments
        Also the full second moments of every expert's inputs and neurons, which take 4 N (p^2 + p_I^2) bytes a layer.
    progress
        Called after every window; raising from it cancels.

    Returns
    -------
    dict
        Layer to statistics. An expert that receives no token is measured on all tokens of its layer instead, with a
        warning; its usage stays zero.

    Raises
    ------
    CheckpointError
        If the family's experts do not receive tokens and selected experts separately (Llama 4).
    """
    recorders = {layer: Recorder(model, family, layer, moments=moments) for layer in layers}
    tokens = 0
    with recording(recorders.values()):
        for request in tracked(requests, "calibration", progress):
            _run_window(model, request, recorders, fisher=fisher)
            tokens += len(request.context) + len(request.continuation)
    statistics = {layer: recorder.statistics(source, tokens, fisher=fisher) for layer, recorder in recorders.items()}
    _warn_of_unreached(statistics)
    return statistics


@torch.no_grad()
def calibrate_batches(
    model: Any,
    family: Family,
    batches: Sequence[Mapping[str, Tensor]],
    *,
    layers: Sequence[int],
    source: str,
    moments: bool = False,
    progress: Progress = silent,
) -> dict[int, Statistics]:
    """Record the same statistics of a model that is no language model, such as a classifier.

    Parameters
    ----------
    model, family, layers, source, moments
        As for :func:`calibrate`.
    batches
        What the model is called with; nothing in them is padding.
    progress
        Called after every batch; raising from it cancels.

    Returns
    -------
    dict
        Layer to statistics, as :func:`calibrate` returns them.
    """
    recorders = {layer: Recorder(model, family, layer, moments=moments) for layer in layers}
    with recording(recorders.values()):
        for batch in tracked(batches, "calibration", progress):
            model(**batch)
    statistics = {
        layer: recorder.statistics(source, recorder.tokens, fisher=False) for layer, recorder in recorders.items()
    }
    _warn_of_unreached(statistics)
    return statistics


def _run_window(model: Any, request: Request, recorders: Mapping[int, Recorder], *, fisher: bool) -> None:
    """Run one window, with a backward pass where gradients are wanted."""
    targets = torch.tensor([request.continuation], device=model.device)
    with torch.set_grad_enabled(fisher):
        logits = model(**model_inputs(model, request), use_cache=False).logits
        if not fisher:
            return
        # A decoder-only model is also given the last token; its prediction after it is not needed.
        logits = (logits if model.config.is_encoder_decoder else logits[:, :-1])[:, -targets.shape[1] :]
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1).float(), targets.flatten())
    weights = [weight for recorder in recorders.values() for weight in recorder.weights]
    gradients = torch.autograd.grad(loss, weights, allow_unused=True)
    by_weight = dict(zip(weights, gradients, strict=True))
    for recorder in recorders.values():
        recorder.add_gradients(by_weight)


def _warn_of_unreached(by_layer: Mapping[int, Statistics]) -> None:
    for layer, statistics in by_layer.items():
        if statistics.unreached:
            names = ", ".join(map(str, statistics.unreached))
            warnings.warn(
                f"layer {layer}: no calibration token reaches expert {names} "
                f"({statistics.tokens:,} tokens of {statistics.source}); measured on all tokens of the layer instead",
                ResmoeWarning,
                stacklevel=3,
            )
