"""One call from a checkpoint and methods to a table of scores with error bars; what is known is not computed again."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import pandas as pd

from .._core.errors import UsageError
from .._core.params import KEEP
from .._core.progress import Progress, silent, tracked
from ..centers import DEFAULT_CENTER
from ..checkpoint import Checkpoint
from ..runtime import load_model
from ..scoring.glue import GLUE
from ..scoring.harness import harness_config, harness_outcomes
from ..scoring.outcome import Outcome
from ..scoring.pairing import Difference, paired_difference
from ..scoring.score_cache import ScoreBook, hash_rows, model_key
from ..scoring.tasks import EMBEDDED_TASKS, TASKS, find_task
from ..scoring.zeroshot import task_outcome
from .variants import ORIGINAL, Variants

Protocol = Literal["paper", "lm-eval"]
Limit = int | Mapping[str, int] | None
COLUMNS = (
    *("task", "metric", "main", "method", "center", "keep", "true_bytes", "original_bytes", "value", "stderr", "n"),
    *("difference", "difference_stderr", "low", "high", "p_value", "cached"),
)
_NO_DIFFERENCE = Difference(math.nan, math.nan, math.nan, math.nan, math.nan)


@dataclass(frozen=True)
class Scored:
    """Outcomes of one task, and whether they were known before."""

    outcomes: list[Outcome]
    cached: bool


class TaskScorer:
    """Scores models on some tasks, and remembers.

    Parameters
    ----------
    tasks
        Names or files: see :func:`~.tasks.find_task`, and for protocol ``lm-eval`` :func:`~.harness.harness_outcomes`.
    protocol
        ``"paper"``: the published scoring; ``"lm-eval"``: the harness's own.
    limit
        Rows of each task (windows, for perplexity of one long text); None for all. A mapping gives each task its own.
    data_dir
        Searched first for data sets.
    book
        Where scores are remembered; the user's cache if not given.
    progress
        Told of everything.

    Raises
    ------
    UsageError, DataError
        If a task or its data is not there; before anything runs.
    """

    def __init__(
        self,
        tasks: Sequence[str] = EMBEDDED_TASKS,
        *,
        protocol: Protocol = "paper",
        limit: Limit = None,
        data_dir: str | Path | None = None,
        book: ScoreBook | None = None,
        progress: Progress = silent,
    ) -> None:
        if protocol not in get_args(Protocol):
            raise UsageError(f"protocol is {protocol!r}, expected {' or '.join(get_args(Protocol))}")
        self.tasks = list(tasks)
        self._limits = {name: limit.get(name) if isinstance(limit, Mapping) else limit for name in tasks}
        for rows in self._limits.values():
            if rows is not None and rows < 1:
                raise UsageError(f"limit is {rows}, expected a positive whole number")
        self._data_dir = data_dir
        self._protocol, self._book, self._progress = protocol, book or ScoreBook(), progress
        self._facts = {name: self._task_facts(name) for name in self.tasks}

    def known(self, facts: dict[str, Any]) -> dict[str, Scored]:
        """Return what is remembered of a model, by task."""
        found = {name: self._book.find(facts | self._facts[name]) for name in self.tasks}
        return {name: Scored(outcomes, True) for name, outcomes in found.items() if outcomes is not None}

    def score(self, model: Any, tokenizer: Any, facts: dict[str, Any]) -> dict[str, Scored]:
        """Score a model on the tasks of which nothing is remembered, and go on where an evaluation was interrupted.

        With protocol ``paper`` that is after a few seconds' work, with ``lm-eval`` after the last whole task.
        """
        scored = self.known(facts)
        for name in self.tasks:
            if name not in scored:
                scored[name] = Scored(self._outcomes(model, tokenizer, name, facts | self._facts[name]), False)
        return scored

    def _outcomes(self, model: Any, tokenizer: Any, name: str, facts: dict[str, Any]) -> list[Outcome]:
        options: dict[str, Any] = {"limit": self._limits[name], "data_dir": self._data_dir, "progress": self._progress}
        if self._protocol == "lm-eval":
            outcomes = harness_outcomes(model, tokenizer, name, **options)
        else:
            options["partial"] = self._book.partial(facts)
            outcomes = [task_outcome(model, tokenizer, find_task(name), **options)]
        self._book.keep(facts, outcomes)
        return outcomes

    def _task_facts(self, name: str) -> dict[str, Any]:
        """What decides a task's rows and their scoring; finds out early what is missing."""
        facts: dict[str, Any] = {"task": name, "protocol": self._protocol, "limit": self._limits[name]}
        data_dir = self._data_dir
        if self._protocol == "lm-eval":
            from importlib.metadata import PackageNotFoundError, version
            from tempfile import TemporaryDirectory

            try:
                facts["lm-eval"] = version("lm-eval")
            except PackageNotFoundError as error:
                raise UsageError("protocol lm-eval needs lm-eval: pip install 'resmoe-lab[eval]'") from error
            with TemporaryDirectory() as folder:
                config = harness_config(name, Path(folder), data_dir=data_dir)
                facts["rows"] = hash_rows(_contents(name, config))
            return facts
        if name in GLUE or (name not in TASKS.names() and not name.endswith((".jsonl", ".txt"))):
            self._refuse(name)
        task = find_task(name)
        facts["rows"] = hash_rows(task.rows(data_dir=data_dir))
        return facts | {"kind": task.kind, "prompt": task.prompt}

    def _refuse(self, name: str) -> None:
        hint = "protocol paper scores " + ", ".join(TASKS.names()) + " and files of rows; for others use lm-eval"
        if name in GLUE:
            raise UsageError(f"task {name!r} is the harness's: {hint}")
        try:
            TASKS[name]
        except UsageError as error:
            raise UsageError(f"{error}; {hint}") from error


def _contents(name: str, config: dict[str, Any] | str) -> list[str]:
    """A configuration, its local files, and the code beside one's own; for data of the hub, its name."""
    if isinstance(config, str):
        return [config]
    code = sorted(Path(name).parent.glob("*.py")) if name.endswith((".yaml", ".yml")) else []
    files = (config.get("dataset_kwargs") or {}).get("data_files") or {}
    named = {key: value for key, value in config.items() if key != "dataset_kwargs"}
    text = json.dumps(named, sort_keys=True, default=lambda value: getattr(value, "__name__", type(value).__name__))
    return [text, *(Path(path).read_text("utf-8") for path in (*files.values(), *code))]


def score_checkpoint(checkpoint: Checkpoint, scorer: TaskScorer, *, device: str = "cpu") -> dict[str, Scored]:
    """Score a checkpoint, packed or not; it is opened only if something is not remembered.

    Parameters
    ----------
    checkpoint
        The model.
    scorer
        Tasks and protocol.
    device
        Where the model runs.
    """
    facts = {"model": model_key(checkpoint), "variant": ORIGINAL}
    known = scorer.known(facts)
    if len(known) == len(scorer.tasks):
        return known
    model, tokenizer = load_model(checkpoint, device=device)
    return scorer.score(model, tokenizer, facts)


def score_methods(
    checkpoint: Checkpoint,
    *,
    methods: Sequence[str],
    keep: float = KEEP.default,
    layers: Sequence[int] | None = None,
    center: str = DEFAULT_CENTER,
    equal: Literal["keep", "bytes"] = "keep",
    tasks: Sequence[str] = EMBEDDED_TASKS,
    limit: Limit = None,
    protocol: Protocol = "paper",
    calibrate: str | None = None,
    seed: int = 0,
    data_dir: str | Path | None = None,
    device: str = "cpu",
    book: ScoreBook | None = None,
    progress: Progress = silent,
) -> pd.DataFrame:
    """Score a model and compressed forms of it, each compared with the original row by row.

    Parameters
    ----------
    checkpoint
        The model, not packed.
    methods, keep, layers, center, equal, calibrate, seed, device
        What is compared: see :class:`~.variants.Variants`.
    tasks, limit, protocol, data_dir, book
        How: see :class:`TaskScorer`.
    progress
        Told after every batch; raising from it stops, and the next call goes on.

    Returns
    -------
    pandas.DataFrame
        One row for each figure of each task and method, the original first: ``task, metric, main`` (whether it is the
        task's main figure), ``method, center, keep, true_bytes, original_bytes`` (of the compressed layers' experts at
        16 bit), ``value, stderr, n``; for main figures ``difference`` to the original, ``difference_stderr, low, high``
        (95 % bootstrap) and ``p_value`` (McNemar, for accuracies); ``cached``: whether it was known before.
    """
    scorer = TaskScorer(tasks, protocol=protocol, limit=limit, data_dir=data_dir, book=book, progress=progress)
    what: dict[str, Any] = {"methods": methods, "keep": keep, "layers": layers, "center": center, "equal": equal}
    what |= {"text": calibrate, "seed": seed, "data_dir": data_dir, "device": device, "progress": progress}
    with Variants(checkpoint, **what) as variants:
        return score_variants(variants, scorer, progress=progress)


def score_variants(variants: Variants, scorer: TaskScorer, *, progress: Progress = silent) -> pd.DataFrame:
    """Score forms of a model, the original first: the table of :func:`score_methods`.

    Parameters
    ----------
    variants
        The forms, in their ``with`` block.
    scorer
        Tasks and protocol.
    progress
        Told after every form.
    """
    model, rows = model_key(variants.checkpoint), []
    first: dict[str, Scored] = {}
    for variant in tracked(variants.all, "methods", progress):
        facts = {"model": model, **variants.facts(variant)}
        scored = scorer.known(facts)
        if len(scored) < len(scorer.tasks):
            with variants.running(variant) as (running, tokenizer):
                scored = scorer.score(running, tokenizer, facts)
        first = first or scored
        for name in scorer.tasks:
            for outcome, before in zip(scored[name].outcomes, first[name].outcomes, strict=True):
                rows += _rows(outcome, before, astuple(variant), scored[name].cached)
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _rows(outcome: Outcome, before: Outcome, variant: tuple[Any, ...], cached: bool) -> list[tuple[Any, ...]]:
    compared = variant[0] != ORIGINAL and len(outcome.rows) > 0
    rows = []
    for number, score in enumerate(outcome.scores):
        difference = paired_difference(before, outcome) if compared and number == 0 else _NO_DIFFERENCE
        figures = (score.value, score.stderr, score.n, *astuple(difference), cached)
        rows.append((score.task, score.metric, number == 0, *variant, *figures))
    return rows
