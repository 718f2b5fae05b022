"""Zero-shot scores as the published evaluation defines them, on StoryWorld's tasks and the paper's four."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from .._core.progress import Progress, silent
from .likelihood import Likelihood, PartialStore, Request, encode_request, likelihoods, model_window, start_token
from .outcome import Outcome, Score, accuracy, perplexities
from .tasks import EMBEDDED_TASKS, RUNNING_TEXT, Kind, Row, Task, find_task


def evaluate_model(
    model: Any,
    tokenizer: Any,
    *,
    tasks: Sequence[str] = EMBEDDED_TASKS,
    limit: int | None = None,
    data_dir: str | Path | None = None,
    progress: Progress = silent,
) -> list[Score]:
    """Score a model on tasks as the paper does.

    Parameters
    ----------
    model, tokenizer
        A causal language model of transformers and its tokenizer.
    tasks
        Names of tasks, or files of one's own: see :func:`~.tasks.find_task`. The first score of a task is its main one.
    limit
        Rows of each task (windows, for perplexity of one long text); None for all.
    data_dir
        Searched first for data sets.
    progress
        Called after every batch.

    Returns
    -------
    list of Score
        The scores of each task in turn, its main score first.

    References
    ----------
    ResMoE, appendix A.6; perplexity is exp of the mean over all predicted tokens, PIQA and WinoGrande compare
    summed log-probabilities with no length norm, LAMBADA asks for every token of the last word.

    Examples
    --------
    >>> import resmoe_lab as rl
    >>> checkpoint = rl.open_checkpoint("mixtral-tiny")
    >>> model, tokenizer = rl.load(checkpoint), rl.load_tokenizer(checkpoint)
    >>> [score] = rl.evaluate_model(model, tokenizer, tasks=["storyworld_action"], limit=4)
    >>> score.metric, score.value, score.n
    ('acc', 1.0, 4)
    """
    options: dict[str, Any] = {"limit": limit, "data_dir": data_dir, "progress": progress}
    return [score for name in tasks for score in task_outcome(model, tokenizer, find_task(name), **options).scores]


def task_outcome(
    model: Any,
    tokenizer: Any,
    task: Task,
    *,
    limit: int | None = None,
    data_dir: str | Path | None = None,
    partial: PartialStore | None = None,
    progress: Progress = silent,
) -> Outcome:
    """Score a model on one task, row by row.

    Parameters
    ----------
    model, tokenizer, limit, data_dir, progress
        As for :func:`evaluate_model`.
    task
        The task.
    partial
        Where results are stored until the evaluation is finished.
    """
    rows, requests = _rows_and_requests(model, tokenizer, task, limit=limit, data_dir=data_dir)
    window = model_window(model, tokenizer)
    options: dict[str, Any] = {"window": window, "task": task.name, "progress": progress, "partial": partial}
    results = likelihoods(model, requests, **options)
    if task.kind in RUNNING_TEXT:
        return _perplexity(tokenizer, task, requests, results)
    return accuracy(task.name, _CORRECT[task.kind](results, rows))


def task_size(
    model: Any, tokenizer: Any, task: Task, *, limit: int | None = None, data_dir: str | Path | None = None
) -> int:
    """Return the number of rows that a task is scored on; of running text, the number of windows.

    Parameters
    ----------
    model, tokenizer, task, limit, data_dir
        As for :func:`task_outcome`.
    """
    rows, requests = _rows_and_requests(model, tokenizer, task, limit=limit, data_dir=data_dir)
    return len(requests) if task.kind in RUNNING_TEXT else len(rows)


def _rows_and_requests(
    model: Any, tokenizer: Any, task: Task, *, limit: int | None, data_dir: str | Path | None
) -> tuple[list[Row], list[Request]]:
    """Read a task's rows and encode what is scored; of running text, `limit` windows rather than rows."""
    running_text = task.kind in RUNNING_TEXT
    rows = task.rows(limit=None if running_text else limit, data_dir=data_dir)
    requests = _REQUESTS[task.kind](model, tokenizer, task, rows)
    return rows, requests[:limit] if running_text else requests


def text_windows(tokenizer: Any, text: str, window: int, *, halves: bool = False) -> list[Request]:
    """Cut a text into requests of at most `window` inputs, each behind the tokenizer's first token ``<s>``.

    With `halves`, as an encoder-decoder needs it, the first half of a window is context and only the second is scored.
    """
    start, tokens = start_token(tokenizer), tokenizer(text, verbose=False)["input_ids"]
    if tokens[:1] == [start]:
        tokens = tokens[1:]
    pieces = [tuple(tokens[i : i + window]) for i in range(0, len(tokens), window)]
    cuts = [len(piece) // 2 if halves else 0 for piece in pieces]
    return [Request((start, *piece[:cut]), piece[cut:]) for piece, cut in zip(pieces, cuts, strict=True)]


def model_windows(model: Any, tokenizer: Any, texts: Iterable[str]) -> list[Request]:
    """Cut texts into the windows that a model can read, as :func:`text_windows` does."""
    window, halves = model_window(model, tokenizer), bool(model.config.is_encoder_decoder)
    return [request for text in texts for request in text_windows(tokenizer, text, window, halves=halves)]


def stream_windows(model: Any, tokenizer: Any, text: str) -> list[Request]:
    """Cut one long text as the published evaluation does: into windows that do not overlap and begin where they begin.

    Lines are joined by blank lines first. The first token of a window has nothing before it and is not predicted;
    an encoder-decoder's encoder reads the first half of a window.
    """
    window, halves = model_window(model, tokenizer), bool(model.config.is_encoder_decoder)
    tokens = tokenizer(published_text(text), verbose=False)["input_ids"]
    pieces = [tuple(tokens[i : i + window]) for i in range(0, len(tokens), window)]
    cuts = [max(1, len(piece) // 2) if halves else 1 for piece in pieces]
    return [Request(piece[:cut], piece[cut:]) for piece, cut in zip(pieces, cuts, strict=True) if len(piece) > cut]


def published_text(text: str) -> str:
    """Join the lines of WikiText by blank lines, as its rows on the hub are joined; a blank line there is empty."""
    return "\n\n".join(line if line.strip() else "" for line in text.splitlines(keepends=True))


def _perplexity(tokenizer: Any, task: Task, requests: Sequence[Request], results: Sequence[Likelihood]) -> Outcome:
    """Perplexity per token, per word and per byte, the last two free of the tokenizer.

    Of one long text the main figure is the published one, exp of the unweighted mean of the windows' mean losses, in
    which a short last window counts as much as any; ``token_perplexity`` weighs every token alike.
    """
    losses = np.array([-result.log_probability for result in results])
    tokens = np.array([len(request.continuation) for request in requests], dtype=np.float64)
    texts = [tokenizer.decode(request.continuation) for request in requests]
    units = {
        "token_perplexity": tokens,
        "word_perplexity": np.array([len(text.split()) for text in texts], dtype=np.float64),
        "byte_perplexity": np.array([len(text.encode()) for text in texts], dtype=np.float64),
    }
    if task.kind == "texts":
        return perplexities(task.name, losses, {"perplexity": units.pop("token_perplexity"), **units})
    published = perplexities(task.name, losses / tokens, {"perplexity": np.ones_like(tokens)})
    return replace(published, scores=published.scores + perplexities(task.name, losses, units).scores)


def _texts(model: Any, tokenizer: Any, task: Task, rows: Sequence[Row]) -> list[Request]:
    return model_windows(model, tokenizer, (row["text"] for row in rows))


def _stream(model: Any, tokenizer: Any, task: Task, rows: Sequence[Row]) -> list[Request]:
    return [request for row in rows for request in stream_windows(model, tokenizer, row["text"])]


def _last_word(model: Any, tokenizer: Any, task: Task, rows: Sequence[Row]) -> list[Request]:
    """LAMBADA: is every token of the last word what greedy decoding would write?"""
    pairs = [row["text"].rsplit(" ", 1) for row in rows]
    return [encode_request(tokenizer, context, f" {word}") for context, word in pairs]


def _choice(model: Any, tokenizer: Any, task: Task, rows: Sequence[Row]) -> list[Request]:
    """PIQA: which of two endings has the larger summed log-probability?"""
    pairs = [(task.prompt.format(**row), [f" {row['sol1']}", f" {row['sol2']}"]) for row in rows]
    return [encode_request(tokenizer, context, ending) for context, endings in pairs for ending in endings]


def _partial(model: Any, tokenizer: Any, task: Task, rows: Sequence[Row]) -> list[Request]:
    """WinoGrande, partial scoring: after which filler is the rest of the sentence likelier?"""
    requests = []
    for row in rows:
        before, after = row["sentence"].split("_", 1)
        requests += [encode_request(tokenizer, before + row[option], after) for option in ("option1", "option2")]
    return requests


def _correct_choices(results: Sequence[Likelihood], labels: Sequence[int]) -> list[bool]:
    first, second = results[::2], results[1::2]
    return [
        (b.log_probability > a.log_probability) == bool(label)
        for a, b, label in zip(first, second, labels, strict=True)
    ]


_REQUESTS: dict[Kind, Callable[..., list[Request]]] = {
    "texts": _texts,
    "stream": _stream,
    "last_word": _last_word,
    "choice": _choice,
    "partial": _partial,
}
_CORRECT: dict[Kind, Callable[[Sequence[Likelihood], Sequence[Row]], list[bool]]] = {
    "last_word": lambda results, rows: [result.greedy for result in results],
    "choice": lambda results, rows: _correct_choices(results, [int(row["label"]) for row in rows]),
    "partial": lambda results, rows: _correct_choices(results, [int(row["answer"]) - 1 for row in rows]),
}
