"""Verbs that score models and compare methods."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from ._app import app
from ._options import Calibrate, DataDir, Json, Keeps, Layers, Limit, Names, TokenCount, split_names, split_numbers
from ._output import progress_bar, show, show_table


@app.command
def evaluate(
    checkpoint: str,
    *,
    tasks: Names | None = None,
    protocol: Annotated[Literal["paper", "lm-eval"], Parameter(help="Whose scoring.")] = "paper",
    limit: Limit = None,
    data_dir: DataDir = None,
    device: str = "cpu",
    json: Json = False,
) -> None:
    """Score a checkpoint zero-shot; without --tasks, on StoryWorld's four tasks."""
    from ..checkpoint import open_checkpoint
    from ..evaluate.tasks import EMBEDDED_TASKS, TASKS
    from ..evaluate.zeroshot import evaluate_model, tabulate
    from ..runtime import load_model

    names = split_names(tasks) or list(EMBEDDED_TASKS)
    for name in names:
        TASKS[name].check(limit=limit, data_dir=data_dir)
    model, tokenizer = load_model(open_checkpoint(checkpoint), device=device)
    score: Callable[..., Any] = evaluate_model
    if protocol == "lm-eval":
        from ..evaluate.harness import evaluate_with_lm_eval as score
    with progress_bar() as progress:
        scores = score(model, tokenizer, tasks=names, limit=limit, data_dir=data_dir, progress=progress)
    table = tabulate(scores)
    facts = {"checkpoint": checkpoint, "protocol": protocol, "limit": limit, "tasks": table}
    show(facts, json, lambda: show_table("Zero-shot", [{"task": name, **row} for name, row in table.items()]))


@app.command
def sweep(
    checkpoint: str,
    *,
    out: Path,
    methods: Names | None = None,
    keep: Keeps | None = None,
    layers: Layers = "all",
    center: str = "wasserstein",
    tasks: Names | None = None,
    limit: Limit = None,
    calibrate: Calibrate = None,
    tokens: TokenCount = 4096,
    seed: int = 0,
    data_dir: DataDir = None,
    device: str = "cpu",
    json: Json = False,
) -> None:
    """Measure every method at every keep: the tables behind the sliders. Goes on where a stopped run left off."""
    options: dict[str, Any] = {
        "methods": split_names(methods),
        "tasks": split_names(tasks),
        "keeps": split_numbers(keep),
    }
    options |= {"center": center, "limit": limit, "seed": seed, "data_dir": data_dir, "device": device}
    options |= {"calibrate": calibrate, "tokens": tokens}
    with progress_bar() as progress:
        found = _sweep(checkpoint, out, layers, progress=progress, **options)
    rows = found.scores.to_dict("records")
    show({"out": str(out), "rows": rows}, json, lambda: show_table(f"Scores of {checkpoint}", rows))


@app.command
def report(
    source: str,
    *,
    out: Path,
    layers: Layers = "all",
    limit: Limit = 200,
    data_dir: DataDir = None,
    device: str = "cpu",
    json: Json = False,
) -> None:
    """Write a standalone HTML report of a checkpoint, or of the folder of a finished sweep.

    For a checkpoint a sweep with default settings is made first, in a folder beside the report, and reused next time.
    """
    from ..evaluate.sweep import UNIT
    from ..report import build_report
    from ..report.summary import summary_rows

    with progress_bar() as progress:
        folder = Path(source)
        # A sweep that was stopped is no checkpoint: the report says how to go on with it.
        if not (folder / "sweep.json").is_file() and not any(folder.glob(f"{UNIT}*.json")):
            folder = out.with_suffix(".sweep")
            _sweep(source, folder, layers, progress=progress, limit=limit, data_dir=data_dir, device=device)
        path = build_report(folder, out, progress=progress)
    facts = {"path": str(path), "bytes": path.stat().st_size, "sweep": str(folder)}

    def human() -> None:
        show_table("At keep 0.25", summary_rows(folder))
        print(f"Report: {path}")  # noqa: T201

    show(facts, json, human)


def _sweep(checkpoint: str, out: Path, layers: str, **options: Any) -> Any:
    from ..checkpoint import open_checkpoint
    from ..compress import select_layers
    from ..evaluate.sweeping import run_sweep
    from ..experts import moe_layers

    opened = open_checkpoint(checkpoint)
    given = {name: value for name, value in options.items() if value is not None}
    return run_sweep(opened, out, layers=select_layers(layers, moe_layers(opened)), **given)
