"""Scoring of models on tasks through the score cache: what has been scored before is not computed again."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from .._core.errors import UsageError
from .._core.progress import Progress, silent
from .glue import GLUE
from .harness import harness_config, harness_outcomes
from .outcome import Outcome, Score
from .score_cache import ScoreCache, hash_rows
from .tasks import EMBEDDED_TASKS, TASKS, find_task
from .zeroshot import task_outcome

Protocol = Literal["paper", "lm-eval"]
Limit = int | Mapping[str, int] | None


@dataclass(frozen=True)
class TaskResult:
    """Outcomes of one task, and whether they came from the cache."""

    outcomes: list[Outcome]
    cached: bool


class TaskScorer:
    """Scores models on some tasks and caches the outcomes.

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
    cache
        Where outcomes are cached; the user's cache folder if not given.
    progress
        Called after every batch.

    Raises
    ------
    UsageError, DataError
        If a task or its data is not found; before anything runs.
    """

    def __init__(
        self,
        tasks: Sequence[str] = EMBEDDED_TASKS,
        *,
        protocol: Protocol = "paper",
        limit: Limit = None,
        data_dir: str | Path | None = None,
        cache: ScoreCache | None = None,
        progress: Progress = silent,
    ) -> None:
        if protocol not in get_args(Protocol):
            raise UsageError(f"protocol is {protocol!r}, expected {' or '.join(get_args(Protocol))}")
        self.tasks = list(tasks)
        self._limits = {name: limit.get(name) if isinstance(limit, Mapping) else limit for name in tasks}
        for rows in self._limits.values():
            if rows is not None and rows < 1:
                raise UsageError(f"limit is {rows}, expected a positive whole number")
        self.data_dir = data_dir
        self.protocol, self.cache, self._progress = protocol, cache or ScoreCache(), progress
        self._task_keys = {name: self._task_key(name) for name in self.tasks}

    def cached(self, key: Mapping[str, Any]) -> dict[str, TaskResult]:
        """Return the cached results of a model by task; `key` holds what decides the model's weights."""
        outcomes = {name: self.cache.get({**key, **self._task_keys[name]}) for name in self.tasks}
        return {name: TaskResult(cached, True) for name, cached in outcomes.items() if cached is not None}

    def score(
        self, key: Mapping[str, Any], running: Callable[[], AbstractContextManager[tuple[Any, Any]]]
    ) -> dict[str, TaskResult]:
        """Score a model on the tasks that are not cached, and resume an evaluation that was interrupted.

        With protocol ``paper`` it resumes from within a few seconds of the interruption, with ``lm-eval`` after the
        last whole task.

        Parameters
        ----------
        key
            What decides the model's weights.
        running
            Gives model and tokenizer for a ``with`` block; called only if some task is not cached.
        """
        results = self.cached(key)
        if len(results) < len(self.tasks):
            with running() as (model, tokenizer):
                for name in self.tasks:
                    if name not in results:
                        outcomes = self._outcomes(model, tokenizer, name, {**key, **self._task_keys[name]})
                        results[name] = TaskResult(outcomes, False)
        return {name: results[name] for name in self.tasks}

    def _outcomes(self, model: Any, tokenizer: Any, name: str, key: dict[str, Any]) -> list[Outcome]:
        options: dict[str, Any] = {"limit": self._limits[name], "data_dir": self.data_dir, "progress": self._progress}
        if self.protocol == "lm-eval":
            outcomes = harness_outcomes(model, tokenizer, name, **options)
        else:
            options["partial"] = self.cache.partial(key)
            outcomes = [task_outcome(model, tokenizer, find_task(name), **options)]
        self.cache.put(key, outcomes)
        return outcomes

    def _task_key(self, name: str) -> dict[str, Any]:
        """What decides a task's rows and their scoring; raises early if something is missing."""
        key: dict[str, Any] = {"task": name, "protocol": self.protocol, "limit": self._limits[name]}
        data_dir = self.data_dir
        if self.protocol == "lm-eval":
            from importlib.metadata import PackageNotFoundError, version
            from tempfile import TemporaryDirectory

            try:
                key["lm-eval"] = version("lm-eval")
            except PackageNotFoundError as error:
                raise UsageError("protocol lm-eval needs lm-eval: pip install 'resmoe-lab[eval]'") from error
            with TemporaryDirectory() as folder:
                config = harness_config(name, Path(folder), data_dir=data_dir)
                key["rows"] = hash_rows(_harness_inputs(name, config))
            return key
        if name in GLUE or (name not in TASKS.names() and not name.endswith((".jsonl", ".txt"))):
            _refuse(name)
        task = find_task(name)
        key["rows"] = hash_rows(task.rows(data_dir=data_dir))
        return key | {"kind": task.kind, "prompt": task.prompt}


def all_scores(results: Mapping[str, TaskResult]) -> list[Score]:
    """Return the scores of every task, each task's main score first."""
    return [score for result in results.values() for outcome in result.outcomes for score in outcome.scores]


def _refuse(name: str) -> None:
    hint = "protocol paper scores " + ", ".join(TASKS.names()) + " and files of rows; for others use lm-eval"
    if name in GLUE:
        raise UsageError(f"task {name!r} is the harness's: {hint}")
    try:
        TASKS[name]
    except UsageError as error:
        raise UsageError(f"{error}; {hint}") from error


def _harness_inputs(name: str, config: dict[str, Any] | str) -> list[str]:
    """A configuration, its local files, and the Python code beside a user's own; the name alone for data of the hub."""
    if isinstance(config, str):
        return [config]
    code = sorted(Path(name).parent.glob("*.py")) if name.endswith((".yaml", ".yml")) else []
    files = (config.get("dataset_kwargs") or {}).get("data_files") or {}
    named = {key: value for key, value in config.items() if key != "dataset_kwargs"}
    text = json.dumps(named, sort_keys=True, default=lambda value: getattr(value, "__name__", type(value).__name__))
    return [text, *(Path(path).read_text("utf-8") for path in (*files.values(), *code))]
