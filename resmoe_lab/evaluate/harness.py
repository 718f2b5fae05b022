"""The same tasks scored by lm-evaluation-harness, offline, on the rows that we have."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .._core.errors import DataError
from .._core.progress import Progress, Tick, silent
from .likelihood import model_window
from .tasks import EMBEDDED_TASKS, TASKS, Row, Task
from .zeroshot import Score

#: Our name of a task from outside -> the harness's.
_THEIR_NAMES = {"wikitext": "wikitext", "lambada": "lambada_openai", "piqa": "piqa", "winogrande": "winogrande"}
_MAIN_METRICS = ("word_perplexity", "acc")


def evaluate_with_lm_eval(
    model: Any,
    tokenizer: Any,
    *,
    tasks: Sequence[str] = EMBEDDED_TASKS,
    limit: int | None = None,
    data_dir: str | Path | None = None,
    progress: Progress = silent,
) -> list[Score]:
    """Score a model with lm-evaluation-harness; the parameters are those of :func:`~.zeroshot.evaluate_model`.

    Raises
    ------
    DataError
        If the harness is not installed, or a data set is missing.
    """
    try:
        from lm_eval import simple_evaluate
        from lm_eval.models.huggingface import HFLM
    except ImportError as error:
        raise DataError(f"protocol lm-eval needs lm-eval ({error}): pip install 'resmoe-lab[eval]'") from error

    window = model_window(model, tokenizer)
    harness = HFLM(pretrained=model, tokenizer=tokenizer, max_length=window, batch_size=16)
    scores: list[Score] = []
    with tempfile.TemporaryDirectory() as folder:
        for done, name in enumerate(tasks):
            progress(Tick("lm-eval", done, len(tasks)))
            # Rolling likelihoods get their first token from the harness; a second one would be scored as text.
            harness.add_bos_token = TASKS[name].kind != "perplexity"
            config = _config(TASKS[name], Path(folder), data_dir)
            found = simple_evaluate(
                model=harness, tasks=[config], limit=limit, bootstrap_iters=0, cache_requests=False, verbosity="ERROR"
            )
            scores += _scores(name, found)
    progress(Tick("lm-eval", len(tasks), len(tasks)))
    return scores


def _config(task: Task, folder: Path, data_dir: str | Path | None) -> dict[str, Any]:
    """The harness's own configuration of a task, pointed at our rows in a file of the folder."""
    from lm_eval.tasks import TaskManager, _yaml_loader

    rows = folder / f"{task.name}.jsonl"
    found = _pages(task.rows(data_dir=data_dir)) if task.name == "wikitext" else task.rows(data_dir=data_dir)
    rows.write_text("".join(json.dumps(row) + "\n" for row in found), "utf-8")
    if task.embedded:
        path = task.path(data_dir).with_suffix(".yaml")
    else:
        path = Path(TaskManager().task_index[_THEIR_NAMES[task.name]].yaml_path)
    config = dict(_yaml_loader.load_yaml(path))
    splits = {"training_split": None, "validation_split": None, "test_split": "test"}
    source = {"dataset_path": "json", "dataset_name": None, "dataset_kwargs": {"data_files": {"test": str(rows)}}}
    return config | splits | source


def _pages(rows: list[Row]) -> list[Row]:
    """Cut WikiText into its articles, whose titles stand alone between single equals signs."""
    pieces = re.split(r"(?m)^(?= = [^=].*[^=] = \n)", "".join(row["text"] for row in rows))
    return [{"page": piece} for piece in pieces if piece.strip()]


def _scores(name: str, found: dict[str, Any]) -> list[Score]:
    """Our scores from the harness's results: the main metric first."""
    results: dict[str, Any]
    [(key, results)] = found["results"].items()
    n = int(found["n-samples"][key]["effective"])
    metrics = {label.split(",")[0]: value for label, value in results.items() if label.endswith(",none")}
    values = {metric: value for metric, value in metrics.items() if not metric.endswith("_stderr")}
    ordered = sorted(values, key=lambda metric: metric not in _MAIN_METRICS)
    scores = []
    for metric in ordered:
        stderr = metrics.get(f"{metric}_stderr")
        scores.append(Score(name, metric, float(values[metric]), _number(stderr), n))
    return scores


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) else float("nan")
