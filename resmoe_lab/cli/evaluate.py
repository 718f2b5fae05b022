"""The verb that scores a checkpoint."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from cyclopts import Parameter

from ._app import app
from ._options import DataDir, Device, Json, Limit, several, split_names
from ._output import progress_bar, show, show_table


@app.command
def evaluate(
    checkpoint: str,
    *,
    tasks: Annotated[list[str] | None, several("Names or files; StoryWorld's four if not given.")] = None,
    protocol: Annotated[Literal["paper", "lm-eval"], Parameter(help="Whose scoring.")] = "paper",
    limit: Limit = None,
    data_dir: DataDir = None,
    device: Device = "cpu",
    json: Json = False,
) -> None:
    """Score a checkpoint zero-shot; without --tasks, on StoryWorld's four tasks.

    A task is a name, or a file of rows (.jsonl, .txt); with --protocol lm-eval also any name or configuration (.yaml)
    of lm-evaluation-harness. What was scored before is not computed again, and an interrupted run goes on. Beside the
    scores of a compressed checkpoint stands how many tokens of a text it sends to other experts than its original does.
    """
    from ..checkpoint import open_checkpoint
    from ..experiments.comparison import score_checkpoint
    from ..experiments.shift_scores import checkpoint_shift
    from ..scoring.outcome import tabulate
    from ..scoring.scorer import TaskScorer, all_scores
    from ..scoring.tasks import EMBEDDED_TASKS

    names = split_names(tasks) or list(EMBEDDED_TASKS)
    with progress_bar() as progress:
        scorer = TaskScorer(names, protocol=protocol, limit=limit, data_dir=data_dir, progress=progress)
        opened = open_checkpoint(checkpoint)
        scores = score_checkpoint(opened, scorer, device=device)
        shift = checkpoint_shift(opened, scorer, device=device)
    cached = [name for name, scored in scores.items() if scored.cached]
    table = tabulate(all_scores(scores))
    facts = {"checkpoint": checkpoint, "protocol": protocol, "limit": limit, "cached": cached, "tasks": table}
    title = f"Zero-shot, protocol {protocol}, {f'first {limit} rows' if limit else 'all rows'} of each task"
    rows = [
        {"task": name, **{key: row[key] for key in ("metric", "value", "stderr", "n")}} for name, row in table.items()
    ]
    if shift is not None:
        facts["routing_shift"] = _described(shift)
        rows += _shift_lines(shift)

    def human() -> None:
        show_table(title, rows)
        if shift is not None and shift.reason:
            print(f"Routing shift: not measured, {shift.reason}")  # noqa: T201

    show(facts, json, human)


def _described(shift: Any) -> dict[str, Any]:
    """What the object says of the routing; null what was not measured."""
    means = {"rerouted": shift.rerouted, "gate_kl": shift.gate_kl}
    return {"task": shift.task, **means, "layers": shift.layers.to_dict("records"), "reason": shift.reason or None}


def _shift_lines(shift: Any) -> list[dict[str, Any]]:
    """The lines of the score table."""
    if shift.layers.empty:
        return []
    count, figures = int(shift.layers["tokens"].max()), {"rerouted": shift.rerouted, "KL of the gate": shift.gate_kl}
    lines = [{"task": "routing shift", "metric": metric, "value": value} for metric, value in figures.items()]
    return [line | {"stderr": None, "n": count} for line in lines]
