"""Verbs that score models and compare methods."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from ._app import app
from ._options import (
    Calibrate,
    Center,
    DataDir,
    Device,
    Json,
    Keeps,
    Layers,
    Limit,
    Seed,
    TokenCount,
    names,
    split_names,
    split_numbers,
)
from ._output import progress_bar, show, show_table


@app.command
def evaluate(
    checkpoint: str,
    *,
    tasks: Annotated[list[str] | None, names("Names or files; StoryWorld's four if not given.")] = None,
    protocol: Annotated[Literal["paper", "lm-eval"], Parameter(help="Whose scoring.")] = "paper",
    limit: Limit = None,
    data_dir: DataDir = None,
    device: Device = "cpu",
    json: Json = False,
) -> None:
    """Score a checkpoint zero-shot; without --tasks, on StoryWorld's four tasks.

    A task is a name, or a file of rows (.jsonl, .txt); with --protocol lm-eval also any name or configuration (.yaml)
    of lm-evaluation-harness. What was scored before is not computed again, and an interrupted run goes on.
    """
    from ..checkpoint import open_checkpoint
    from ..experiments.comparison import score_checkpoint
    from ..scoring.outcome import tabulate
    from ..scoring.scorer import TaskScorer, all_scores
    from ..scoring.tasks import EMBEDDED_TASKS

    chosen = split_names(tasks) or list(EMBEDDED_TASKS)
    with progress_bar() as progress:
        scorer = TaskScorer(chosen, protocol=protocol, limit=limit, data_dir=data_dir, progress=progress)
        found = score_checkpoint(open_checkpoint(checkpoint), scorer, device=device)
    cached = [name for name, scored in found.items() if scored.cached]
    table = tabulate(all_scores(found))
    facts = {"checkpoint": checkpoint, "protocol": protocol, "limit": limit, "cached": cached, "tasks": table}
    title = f"Zero-shot, protocol {protocol}, {f'first {limit} rows' if limit else 'all rows'} of each task"
    rows = [
        {"task": name, **{key: row[key] for key in ("metric", "value", "stderr", "n")}} for name, row in table.items()
    ]
    show(facts, json, lambda: show_table(title, rows))


@app.command
def bench(
    checkpoint: str,
    *,
    ways: Annotated[list[str] | None, names("original, restored, factored; all that there are if not given.")] = None,
    original: Annotated[str | None, Parameter(help="The original, where the manifest does not tell.")] = None,
    prompt: Annotated[int, Parameter(help="Tokens of the prompt.")] = 128,
    new: Annotated[int, Parameter(help="Tokens that are generated.")] = 16,
    rounds: Annotated[int, Parameter(help="How often; medians are shown.")] = 3,
    seed: Seed = 0,
    json: Json = False,
) -> None:
    """Measure speed and memory of a packed checkpoint, restored and factored, and of its original."""
    from dataclasses import asdict

    from ..checkpoint import open_checkpoint
    from ..runtime.bench import bench

    how: dict[str, Any] = {"prompt": prompt, "new": new, "rounds": rounds, "seed": seed}
    with progress_bar() as progress:
        opened = open_checkpoint(checkpoint)
        found = bench(opened, ways=split_names(ways), original=original, progress=progress, **how)
    rows = [asdict(row) for row in found]
    show({"checkpoint": checkpoint, "rows": rows}, json, lambda: show_table(f"Bench of {checkpoint}", rows))


@app.command
def sweep(
    checkpoint: str,
    *,
    out: Annotated[Path, Parameter(help="Folder of the tables: a new one, or that of a sweep that was stopped.")],
    methods: Annotated[list[str] | None, names("Four if not given; `--methods help` lists all.")] = None,
    keep: Keeps | None = None,
    layers: Layers = "all",
    center: Center = "wasserstein",
    tasks: Annotated[list[str] | None, names("What is scored; StoryWorld's four tasks if not given.")] = None,
    limit: Limit = None,
    calibrate: Calibrate = None,
    tokens: TokenCount = 4096,
    seed: Seed = 0,
    data_dir: DataDir = None,
    device: Device = "cpu",
    json: Json = False,
) -> None:
    """Measure every method at every keep: the tables behind the sliders. Goes on where a stopped run left off."""
    options: dict[str, Any] = {
        "methods": split_names(methods),
        "tasks": split_names(tasks),
        "keeps": split_numbers(keep),
    }
    options |= {"center": center, "limit": limit, "seed": seed, "data_dir": data_dir, "device": device}
    options |= {"calibration": calibrate, "tokens": tokens}
    with progress_bar() as progress:
        found = _sweep(checkpoint, out, layers, progress=progress, **options)
    rows = found.scores.to_dict("records")
    show({"out": str(out), "rows": rows}, json, lambda: show_table(f"Scores of {checkpoint}", rows))


@app.command
def report(
    source: Annotated[str, Parameter(help="A checkpoint, or the folder of a finished sweep.")],
    *,
    out: Annotated[Path, Parameter(help="The HTML file.")],
    layers: Layers = "all",
    limit: Limit = 200,
    bench: Annotated[str | None, Parameter(help="A packed checkpoint whose speed and memory the report shows.")] = None,
    data_dir: DataDir = None,
    device: Device = "cpu",
    json: Json = False,
) -> None:
    """Write a standalone HTML report of a checkpoint, or of the folder of a finished sweep.

    For a checkpoint a sweep with default settings is made first, in a folder beside the report, and reused next time.
    """
    from ..experiments.sweep import UNIT
    from ..report import build_report
    from ..report.summary import summary_rows

    with progress_bar() as progress:
        folder = Path(source)
        # A sweep that was stopped is no checkpoint: the report says how to go on with it.
        if not (folder / "sweep.json").is_file() and not any(folder.glob(f"{UNIT}*.json")):
            folder = out.with_suffix(".sweep")
            _sweep(source, folder, layers, progress=progress, limit=limit, data_dir=data_dir, device=device)
        if bench is not None:
            _add_speed(folder, bench, progress=progress)
        path = build_report(folder, out, progress=progress)
    facts = {"path": str(path), "bytes": path.stat().st_size, "sweep": str(folder)}

    def human() -> None:
        show_table("At keep 0.25", summary_rows(folder))
        print(f"Report: {path}")  # noqa: T201

    show(facts, json, human)


def _add_speed(folder: Path, packed: str, *, progress: Any) -> None:
    """Put what a packed checkpoint takes to run beside a sweep's other tables."""
    from dataclasses import asdict, replace

    import pandas as pd

    from ..checkpoint import open_checkpoint
    from ..experiments.sweep import Sweep
    from ..runtime.bench import bench

    rows = [asdict(row) for row in bench(open_checkpoint(packed), progress=progress)]
    replace(Sweep.load(folder), speed=pd.DataFrame(rows)).save(folder)


def _sweep(checkpoint: str, out: Path, layers: str, **options: Any) -> Any:
    from ..checkpoint import open_checkpoint
    from ..compress import select_layers
    from ..experiments.run_sweep import run_sweep
    from ..experts import moe_layers

    opened = open_checkpoint(checkpoint)
    given = {name: value for name, value in options.items() if value is not None}
    return run_sweep(opened, out, layers=select_layers(layers, moe_layers(opened)), **given)
