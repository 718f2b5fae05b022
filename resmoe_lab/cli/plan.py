"""The verb that forecasts a run."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from ._app import app
from ._options import DEFAULTS, CompressionOptions, Json
from ._output import show, show_facts, show_table


@app.command
def plan(
    checkpoint: str,
    *,
    out: Annotated[Path, Parameter(help="Folder that the result would go to: its disk is what counts.")] = Path("."),
    options: CompressionOptions = DEFAULTS,
    json: Json = False,
) -> None:
    """Tell what compressing layers will take, before any work; fails where this machine has too little."""
    from ..checkpoint import open_checkpoint
    from ..compress import forecast_run

    config = options.config()
    forecast = forecast_run(open_checkpoint(checkpoint), out, config, scheduler=options.scheduler)
    facts = forecast.facts()

    def human() -> None:
        show_table(f"Forecast for {checkpoint}", [asdict(layer) for layer in forecast.layers])
        show_facts({name: value for name, value in facts.items() if name != "layers"})

    show(facts, json, human)
    forecast.check(out)
