"""The verb that writes a report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from .._core.errors import UsageError
from ._app import app
from ._options import DataDir, Device, Json, Layers, Limit
from ._output import progress_bar, show, show_table
from ._sweep import make_sweep


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
    from ..checkpoint import open_checkpoint
    from ..experiments.sweep import UNIT, Sweep
    from ..report import build_report, check_report
    from ..report.summary import summary_rows

    check_report(out)
    folder = Path(source)
    # A sweep that was stopped is no checkpoint: the report says how to go on with it.
    swept = (folder / "sweep.json").is_file() or any(folder.glob(f"{UNIT}*.json"))
    if swept:
        Sweep.load(folder)
    else:
        folder = out.with_suffix(".sweep")
        if folder == out:
            raise UsageError(f"--out {out} is the name of the sweep's folder too, expected a name such as report.html")
    if bench is not None:
        open_checkpoint(bench)
    with progress_bar() as progress:
        if not swept:
            make_sweep(source, folder, layers, progress=progress, limit=limit, data_dir=data_dir, device=device)
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
