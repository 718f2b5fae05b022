"""Tasks scored by lm-evaluation-harness itself, on local files where they are available."""

from __future__ import annotations

import json
import math
import os
import re
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

from .._core.errors import DataError, UsageError
from .._core.progress import Progress, Tick, silent
from .glue import GLUE
from .likelihood import model_window
from .outcome import Outcome, Score
from .tasks import TASKS, Kind, Row, Task, find_task

#: Our name of a task -> the harness's name, and its folder there.
_HARNESS_NAMES = {
    "wikitext": ("wikitext", "wikitext"),
    "lambada": ("lambada_openai", "lambada"),
    "piqa": ("piqa", "piqa"),
    "winogrande": ("winogrande", "winogrande"),
    **{name: (name, f"glue/{name}") for name in GLUE},
}
#: Kind of task -> the embedded task whose configuration fits such rows.
_CONFIG_TASKS: dict[Kind, str] = {
    "texts": "storyworld_perplexity",
    "stream": "storyworld_perplexity",
    "last_word": "storyworld_last_word",
    "choice": "storyworld_action",
    "partial": "storyworld_pronoun",
}
_MAIN_METRICS = ("word_perplexity", "acc", "mcc")
#: Requests that go through the model at once.
BATCH_SIZE = 16


def harness_outcomes(
    model: Any,
    tokenizer: Any,
    task: str,
    *,
    limit: int | None = None,
    data_dir: str | Path | None = None,
    progress: Progress = silent,
) -> list[Outcome]:
    """Score a model on one task by the harness.

    Parameters
    ----------
    model, tokenizer, limit, data_dir
        As for :func:`~.zeroshot.evaluate_model`.
    task
        One of :data:`~.tasks.TASKS`, on its files; a task of GLUE, on its published files where they are found; any
        other name of the harness, whose data it fetches from the hub; a file of rows as :func:`~.tasks.find_task`
        takes it; or a configuration of the harness (``.yaml``), whose own Python functions are run, as the harness
        does.
    progress
        Called after every batch; raising from it stops the harness.

    Returns
    -------
    list of Outcome
        One, or one for each task of a group.

    Raises
    ------
    DataError
        If the harness is not installed, or data is missing.
    UsageError
        If there is no such task.
    """
    try:
        from lm_eval import simple_evaluate
        from lm_eval.models.huggingface import HFLM
        from lm_eval.tasks import TaskManager
    except ImportError as error:
        raise DataError(f"protocol lm-eval needs lm-eval ({error}): pip install 'resmoe-lab[eval]'") from error

    with tempfile.TemporaryDirectory() as folder:
        config = harness_config(task, Path(folder), data_dir=data_dir)
        rolling = isinstance(config, dict) and config.get("output_type") == "loglikelihood_rolling"
        window = model_window(model, tokenizer)
        # The harness itself adds the first token of rolling likelihoods; a second one would be scored as text.
        harness = HFLM(pretrained=model, tokenizer=tokenizer, max_length=window, batch_size=BATCH_SIZE)
        harness.add_bos_token = not rolling
        num_batches = count(1)
        hook = model.register_forward_hook(lambda *_: progress(Tick(f"lm-eval {task}", next(num_batches))))
        try:
            manager = _all_tasks() if isinstance(config, str) else TaskManager(include_defaults=False)
            options = {"bootstrap_iters": 0, "cache_requests": False, "verbosity": "ERROR"}
            output = simple_evaluate(model=harness, tasks=[config], limit=limit, task_manager=manager, **options)
        except (OSError, ValueError, KeyError) as error:
            if isinstance(config, dict):
                raise
            reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise DataError(
                f"the harness could not get the data of task {task!r} ({reason}): it comes from the hub; allow the "
                "network, or give a configuration of your own that names local files (.yaml)"
            ) from error
        finally:
            hook.remove()
    assert output is not None  # only other ranks of a distributed run get None
    names = {key: task if len(output["samples"]) == 1 else key for key in output["samples"]}
    return [_outcome(_plain_name(name), output, key) for key, name in names.items()]


def _plain_name(task: str) -> str:
    """Return a file's stem; any other name as it is."""
    return Path(task).stem if Path(task).suffix in (".yaml", ".jsonl", ".txt") else task


def harness_config(task: str, folder: Path, *, data_dir: str | Path | None = None) -> dict[str, Any] | str:
    """Return the harness's configuration of a task with rows from a file in the folder, or the harness's own name.

    Parameters
    ----------
    task
        As for :func:`harness_outcomes`.
    folder
        Where rows are written.
    data_dir
        Searched first for data sets.
    """
    from lm_eval.tasks import _yaml_loader

    if task.endswith((".yaml", ".yml")):
        return _user_config(Path(os.path.expanduser(task)))
    if task in GLUE:
        config = _yaml_loader.load_yaml(_harness_yaml(task))
        return _with_rows(config, folder / f"{task}.jsonl", GLUE[task].rows(data_dir=data_dir))
    if task not in TASKS.names() and Path(task).suffix not in (".jsonl", ".txt"):
        names = _all_tasks().task_index
        if task not in names:
            similar = get_close_matches(task, [*TASKS.names(), *names], n=3, cutoff=0.6)
            hint = f"did you mean {' or '.join(similar)}?" if similar else "see 'lm-eval ls tasks'"
            raise UsageError(f"unknown task {task!r}, neither ours nor the harness's: {hint}")
        return task
    local = find_task(task)
    config = _yaml_loader.load_yaml(_task_yaml(local, data_dir)) | {"task": local.name}
    rows = local.rows(data_dir=data_dir)
    return _with_rows(config, folder / f"{local.name}.jsonl", _pages(rows) if local.name == "wikitext" else rows)


@cache
def _all_tasks() -> Any:
    """Return the harness's index of its thousands of tasks, which takes many seconds to make."""
    from lm_eval.tasks import TaskManager

    return TaskManager()


def _harness_yaml(task: str) -> Path:
    """Return the path of the harness's configuration of a task, looked up in its folder alone."""
    import lm_eval.tasks

    name, folder = _HARNESS_NAMES[task]
    path = Path(lm_eval.tasks.__file__).parent / folder
    index = lm_eval.tasks.TaskManager(include_path=str(path), include_defaults=False).task_index
    return Path(index[name].yaml_path)


def _task_yaml(task: Task, data_dir: str | Path | None) -> Path:
    if task.name in _HARNESS_NAMES and not Path(task.file).is_absolute():
        return _harness_yaml(task.name)
    template = TASKS[_CONFIG_TASKS[task.kind]] if not task.embedded else task
    return template.path(data_dir).with_suffix(".yaml")


def _with_rows(config: Mapping[str, Any], path: Path, rows: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    splits = {"training_split": None, "validation_split": None, "test_split": "test"}
    source = {"dataset_path": "json", "dataset_name": None, "dataset_kwargs": {"data_files": {"test": str(path)}}}
    return {**config, **splits, **source}


def _user_config(path: Path) -> dict[str, Any]:
    """Read a user's configuration, whose data files are relative to its own folder."""
    from lm_eval.tasks import _yaml_loader

    if not os.path.isfile(path):
        raise DataError(f"task file {path} not found: check the path")
    try:
        config: dict[str, Any] = _yaml_loader.load_yaml(path)
    except Exception as error:
        reason = " ".join(str(error).split())
        raise DataError(f"{path} is no configuration of the harness ({reason}): see its guide to new tasks") from error
    arguments = config.get("dataset_kwargs") if isinstance(config, dict) else config
    if not isinstance(config, dict) or not isinstance(arguments, dict | None):
        raise DataError(
            f"{path} is no configuration of the harness, expected named settings: see its guide to new tasks"
        )
    files = (arguments or {}).get("data_files")
    if isinstance(files, dict):
        for split, name in files.items():
            if not isinstance(name, str) or not os.path.isfile(path.parent / name):
                raise DataError(f"{path} names {name}, which is not beside it: correct data_files")
            files[split] = str((path.parent / name).absolute())
    return {"task": path.stem, **config}


def _pages(rows: list[Row]) -> list[Row]:
    """Cut WikiText into its articles, whose titles stand alone between single equals signs."""
    pieces = re.split(r"(?m)^(?= = [^=].*[^=] = \n)", "".join(row["text"] for row in rows))
    return [{"page": piece} for piece in pieces if piece.strip()]


def _outcome(name: str, output: Mapping[str, Any], key: str) -> Outcome:
    """Convert one task's metrics and samples from the harness's output."""
    samples = sorted(output["samples"][key], key=lambda sample: sample["doc_id"])
    results = output["results"][key]
    values = {label.split(",")[0]: value for label, value in results.items() if label.endswith(",none")}
    values = {metric: value for metric, value in values.items() if isinstance(value, int | float)}
    ordered = sorted(values, key=lambda metric: metric not in _MAIN_METRICS)
    rows_of = {metric: _metric_rows(samples, metric) for metric in ordered}
    scores = tuple(
        Score(name, metric, float(values[metric]), _stderr(float(values[metric]), *rows_of[metric]), len(samples))
        for metric in ordered
    )
    rows, weights = rows_of[ordered[0]]
    return Outcome(scores, rows, weights)


def _metric_rows(samples: Sequence[Mapping[str, Any]], metric: str) -> tuple[np.ndarray, np.ndarray | None]:
    """Return a metric's rows and weights: numbers, or losses and units of a perplexity; empty where there are none."""
    values = [sample.get(metric) for sample in samples]
    if all(isinstance(value, int | float) for value in values):
        return np.array(values, dtype=np.float64), None
    if all(isinstance(value, tuple | list) and len(value) == 2 for value in values) and metric.endswith("perplexity"):
        pairs = np.array(values, dtype=np.float64)
        return -pairs[:, 0], pairs[:, 1]
    return np.empty(0), None


def _stderr(value: float, rows: np.ndarray, weights: np.ndarray | None) -> float:
    """Return the standard error of a mean, as the harness has it, or of a perplexity (delta method)."""
    n = len(rows)
    if n < 2:
        return math.nan
    if weights is None:
        # A metric that is no mean of its rows (LAMBADA's perplexity, a correlation) has no such error.
        return float(rows.std(ddof=1) / math.sqrt(n)) if math.isclose(rows.mean(), value, rel_tol=1e-9) else math.nan
    rate = rows.sum() / weights.sum()
    return float(value * (rows - rate * weights).std(ddof=1) / (weights.mean() * math.sqrt(n)))
