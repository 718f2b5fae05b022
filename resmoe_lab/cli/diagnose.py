"""The verb that tells what a center would gain."""

from __future__ import annotations

from typing import Annotated, Any

from cyclopts import Parameter

from .._core.errors import UsageError
from .._core.params import KEEP
from ._app import app
from ._calibration import CalibrationText, calibrated
from ._options import (
    DataDir,
    Device,
    Json,
    Keep,
    Layers,
    RunningText,
    Seed,
    TokenCount,
    UsageFile,
    several,
    split_names,
)
from ._output import progress_bar, show, show_table


@app.command
def diagnose(
    checkpoint: str,
    *,
    layers: Layers = "all",
    centers: Annotated[list[str] | None, several("Centers to compare; the usual ones if not given.")] = None,
    keep: Keep = KEEP.default,
    routing: Annotated[bool, Parameter(help="Run the model on text to see who receives the tokens.")] = True,
    calibration: RunningText = "storyworld_perplexity",
    tokens: TokenCount = 4096,
    usage: UsageFile = None,
    seed: Seed = 0,
    data_dir: DataDir = None,
    device: Device = "cpu",
    json: Json = False,
) -> None:
    """Tell what a center would gain in each layer, before anything is compressed."""
    from dataclasses import asdict

    from ..analysis.diagnosis import DEFAULT_CENTERS, diagnose
    from ..centers import CENTERS
    from ..checkpoint import open_checkpoint
    from ..compress import select_layers
    from ..experts import load_stack, moe_layers
    from ..scoring.calibration import calibration_rows
    from ..scoring.usage_trace import read_usage

    opened = open_checkpoint(checkpoint)
    layer_numbers = select_layers(layers, moe_layers(opened))
    names = split_names(centers) or DEFAULT_CENTERS
    needs_fisher = any(CENTERS[name].needs_fisher for name in names)
    KEEP.validate(keep)
    trace = None if usage is None else read_usage(usage, opened)
    # A trace tells who receives the tokens: the model runs only for what else a center needs.
    known = trace is not None
    needing = [
        name for name in names if CENTERS[name].needs_statistics and not (known and CENTERS[name].needs_only_usage)
    ]
    runs = routing and (not known or bool(needing))
    if runs:
        calibration_rows(calibration, tokens=tokens, data_dir=data_dir)
    elif needing:
        raise UsageError(f"center {needing[0]!r} needs calibration statistics and has none: leave out --no-routing")
    statistics: dict[int, Any] = {}
    with progress_bar() as progress:
        if runs:
            text = CalibrationText(calibration, tokens, data_dir, device)
            statistics = calibrated(opened, layer_numbers, text, fisher=needs_fisher, progress=progress)
        if trace is not None:
            statistics = trace.statistics(layer_numbers, statistics)
        diagnoses = [
            diagnose(
                load_stack(opened, layer=layer, device=device),
                centers=names,
                keep=keep,
                statistics=statistics.get(layer),
                seed=seed,
                progress=progress,
            )
            for layer in layer_numbers
        ]

    def human() -> None:
        rows = [{"layer": one.layer, **one.residual_gain} for one in diagnoses]
        show_table(f"Share of the experts that a center explains in {checkpoint}", rows)
        for one in diagnoses:
            print(f"Layer {one.layer}. {one.advice}")  # noqa: T201

    show({"checkpoint": checkpoint, "layers": [asdict(one) for one in diagnoses]}, json, human)
