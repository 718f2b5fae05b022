"""The verb that compares methods at every kept fraction."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from .._core.params import BITS
from ._app import app
from ._options import (
    DEFAULT_CENTER,
    DEFAULT_VALUES,
    BitsList,
    CalibrationTask,
    Center,
    CenterValues,
    DataDir,
    Device,
    Json,
    Keeps,
    Layers,
    Limit,
    Seed,
    TokenCount,
    UsageFile,
    Values,
    several,
    split_names,
    split_numbers,
    storage_options,
)
from ._output import progress_bar, show, show_table
from ._sweep import make_sweep


@app.command
def sweep(
    checkpoint: str,
    *,
    out: Annotated[Path, Parameter(help="Folder of the tables: a new one, or that of a sweep that was stopped.")],
    methods: Annotated[list[str] | None, several("Six if not given; `--methods help` lists all.")] = None,
    keep: Keeps | None = None,
    bits: BitsList | None = None,
    layers: Layers = "all",
    center: Center = DEFAULT_CENTER,
    tasks: Annotated[list[str] | None, several("What is scored; StoryWorld's four tasks if not given.")] = None,
    limit: Limit = None,
    values: Values = DEFAULT_VALUES,
    center_values: CenterValues = None,
    calibration: CalibrationTask = None,
    tokens: TokenCount = 4096,
    usage: UsageFile = None,
    seed: Seed = 0,
    data_dir: DataDir = None,
    device: Device = "cpu",
    json: Json = False,
) -> None:
    """Measure every method at every keep: the tables behind the sliders. Goes on where a stopped run left off."""
    from ..experiments.sweep import scores_with_shift

    with progress_bar() as progress:
        result = make_sweep(
            checkpoint,
            out,
            layers,
            methods=split_names(methods),
            keeps=split_numbers(keep),
            bits=split_numbers(bits, BITS),
            center=center,
            tasks=split_names(tasks),
            limit=limit,
            calibration=calibration,
            tokens=tokens,
            usage=usage,
            storage=storage_options(values, center_values),
            seed=seed,
            data_dir=data_dir,
            device=device,
            progress=progress,
        )
    records = scores_with_shift(result).to_dict("records")
    rows: list[dict[str, Any]] = [{str(name): value for name, value in record.items()} for record in records]
    show({"out": str(out), "rows": rows}, json, lambda: show_table(f"Scores of {checkpoint}", rows))
