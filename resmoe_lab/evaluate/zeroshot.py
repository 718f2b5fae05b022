"""Zero-shot scores as the published evaluation defines them, on StoryWorld's tasks and the paper's four."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .._core.progress import Progress, silent
from .likelihood import Request, encode_request, likelihoods, model_window
from .tasks import EMBEDDED_TASKS, TASKS, Kind, Row, Task


@dataclass(frozen=True)
class Score:
    """One figure of one task: the metric's value, its standard error, and the number of rows (or windows)."""

    task: str
    metric: str
    value: float
    stderr: float
    n: int


def evaluate_model(
    model: Any,
    tokenizer: Any,
    *,
    tasks: Sequence[str] = EMBEDDED_TASKS,
    limit: int | None = None,
    data_dir: str | Path | None = None,
    progress: Progress = silent,
) -> list[Score]:
    """Score a model on tasks.

    Parameters
    ----------
    model, tokenizer
        A causal language model of transformers and its tokenizer.
    tasks
        Task names. The first score of a task is its main one.
    limit
        Rows of each task (windows, for perplexity of one long text); None for all.
    data_dir
        Searched first for data sets.
    progress
        Told after every batch.

    References
    ----------
    ResMoE, appendix A.6; perplexity is exp of the mean over all predicted tokens, PIQA and WinoGrande compare
    summed log-probabilities with no length norm, LAMBADA asks for every token of the last word.
    """
    scores: list[Score] = []
    for name in tasks:
        task = TASKS[name]
        rows = task.rows(limit=None if task.kind == "perplexity" else limit, data_dir=data_dir)
        scores += _SCORERS[task.kind](model, tokenizer, task, rows, limit, progress)
    return scores


def tabulate(scores: Sequence[Score]) -> dict[str, dict[str, Any]]:
    """Return ``{task: {metric, value, stderr, n}}`` of each task's main score, further metrics beside it."""
    table: dict[str, dict[str, Any]] = {}
    for score in scores:
        if score.task in table:
            table[score.task][score.metric] = score.value
        else:
            stderr = None if math.isnan(score.stderr) else score.stderr
            table[score.task] = {"metric": score.metric, "value": score.value, "stderr": stderr, "n": score.n}
    return table


def text_windows(tokenizer: Any, text: str, window: int, *, halves: bool = False) -> list[Request]:
    """Cut a text into requests of at most `window` inputs, each behind the tokenizer's first token ``<s>``.

    With `halves`, as an encoder-decoder needs it, the first half of a window is context and only the second is scored.
    """
    start, *tokens = tokenizer(text, verbose=False)["input_ids"]
    if start != tokenizer.bos_token_id:
        start, tokens = tokenizer.bos_token_id or tokenizer.eos_token_id, [start, *tokens]
    pieces = [tuple(tokens[i : i + window]) for i in range(0, len(tokens), window)]
    cuts = [len(piece) // 2 if halves else 0 for piece in pieces]
    return [Request((start, *piece[:cut]), piece[cut:]) for piece, cut in zip(pieces, cuts, strict=True)]


def model_windows(model: Any, tokenizer: Any, texts: Iterable[str]) -> list[Request]:
    """Cut texts into the windows that a model can read, as :func:`text_windows` does."""
    window, halves = model_window(model, tokenizer), bool(model.config.is_encoder_decoder)
    return [request for text in texts for request in text_windows(tokenizer, text, window, halves=halves)]


def _perplexity(
    model: Any, tokenizer: Any, task: Task, rows: list[Row], limit: int | None, progress: Progress
) -> list[Score]:
    """Perplexity per token (the paper's), per word and per byte (free of the tokenizer)."""
    window = model_window(model, tokenizer)
    requests = model_windows(model, tokenizer, (row["text"] for row in rows))[:limit]
    results = likelihoods(model, requests, window=window, task=task.name, progress=progress)
    losses = np.array([-result.log_probability for result in results])
    tokens = np.array([len(request.continuation) for request in requests])
    texts = [tokenizer.decode(request.continuation) for request in requests]
    words = np.array([len(text.split()) for text in texts])
    size = np.array([len(text.encode()) for text in texts])
    units = {"perplexity": tokens, "word_perplexity": words, "byte_perplexity": size}
    return [_ratio_score(task.name, metric, losses, count) for metric, count in units.items()]


def _ratio_score(task: str, metric: str, losses: np.ndarray, units: np.ndarray) -> Score:
    """Exp of (summed loss / summed units), with the standard error of a ratio over windows (delta method)."""
    rate = losses.sum() / max(1, units.sum())
    value = math.exp(min(rate, 700.0))
    n = len(losses)
    spread = (losses - rate * units).std(ddof=1) / (units.mean() * math.sqrt(n)) if n > 1 else math.nan
    return Score(task, metric, value, float(value * spread), n)


def _accuracy(task: str, right: list[bool]) -> list[Score]:
    n = len(right)
    share = sum(right) / n
    return [Score(task, "acc", share, math.sqrt(share * (1 - share) / max(1, n - 1)), n)]


def _last_word(
    model: Any, tokenizer: Any, task: Task, rows: list[Row], limit: int | None, progress: Progress
) -> list[Score]:
    """LAMBADA: is every token of the last word what greedy decoding would write?"""
    pairs = [row["text"].rsplit(" ", 1) for row in rows]
    requests = [encode_request(tokenizer, context, f" {word}") for context, word in pairs]
    window = model_window(model, tokenizer)
    results = likelihoods(model, requests, window=window, task=task.name, progress=progress)
    return _accuracy(task.name, [result.greedy for result in results])


def _choice(
    model: Any, tokenizer: Any, task: Task, rows: list[Row], limit: int | None, progress: Progress
) -> list[Score]:
    """PIQA: which of two endings has the larger summed log-probability?"""
    pairs = [(task.prompt.format(**row), [f" {row['sol1']}", f" {row['sol2']}"]) for row in rows]
    requests = [encode_request(tokenizer, context, ending) for context, endings in pairs for ending in endings]
    window = model_window(model, tokenizer)
    results = likelihoods(model, requests, window=window, task=task.name, progress=progress)
    return _accuracy(task.name, _right_choices(results, [int(row["label"]) for row in rows]))


def _partial(
    model: Any, tokenizer: Any, task: Task, rows: list[Row], limit: int | None, progress: Progress
) -> list[Score]:
    """WinoGrande, partial scoring: after which filler is the rest of the sentence likelier?"""
    requests = []
    for row in rows:
        before, after = row["sentence"].split("_", 1)
        requests += [encode_request(tokenizer, before + row[option], after) for option in ("option1", "option2")]
    window = model_window(model, tokenizer)
    results = likelihoods(model, requests, window=window, task=task.name, progress=progress)
    return _accuracy(task.name, _right_choices(results, [int(row["answer"]) - 1 for row in rows]))


def _right_choices(results: Sequence[Any], labels: Sequence[int]) -> list[bool]:
    first, second = results[::2], results[1::2]
    return [
        (b.log_probability > a.log_probability) == bool(label)
        for a, b, label in zip(first, second, labels, strict=True)
    ]


_SCORERS: dict[Kind, Callable[..., list[Score]]] = {
    "perplexity": _perplexity,
    "last_word": _last_word,
    "choice": _choice,
    "partial": _partial,
}
