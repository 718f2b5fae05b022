"""Verbs that write checkpoints, and the forecast before them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from .._core.params import KEEP
from ._app import app
from ._calibration import calibrated
from ._options import (
    Calibrate,
    DataDir,
    Export,
    Form,
    Json,
    Keep,
    Layers,
    Mode,
    Scheduler,
    Solver,
    TokenCount,
    Values,
    chosen_method,
)
from ._output import progress_bar, show, show_facts, show_table


@app.command
def plan(
    checkpoint: str,
    *,
    out: Annotated[Path, Parameter(help="Folder that the result would go to: its disk is what counts.")] = Path("."),
    method: str = "resmoe-up",
    keep: Keep = KEEP.default,
    layers: Layers = "all",
    center: str = "wasserstein",
    solver: Solver = None,
    mode: Mode = None,
    export: Export = "packed",
    form: Form = None,
    values: Values = "bf16",
    scheduler: Scheduler = None,
    json: Json = False,
) -> None:
    """Tell what compressing layers will take, before any work; fails where this machine has too little."""
    from dataclasses import asdict

    from ..checkpoint import open_checkpoint
    from ..compress import forecast_run, select_layers
    from ..experts import moe_layers

    how = chosen_method(method=method, keep=keep, center=center, solver=solver, mode=mode)
    opened = open_checkpoint(checkpoint)
    chosen = select_layers(layers, moe_layers(opened))
    stored: dict[str, Any] = {"export": export, "form": form, "values": values}
    found = forecast_run(opened, out, layers=chosen, scheduler=scheduler, **how, **stored)
    facts = found.facts()

    def human() -> None:
        show_table(f"Forecast for {checkpoint}", [asdict(layer) for layer in found.layers])
        show_facts({name: value for name, value in facts.items() if name != "layers"})

    show(facts, json, human)
    found.check(out)


@app.command
def compress(
    checkpoint: str,
    *,
    out: Path,
    method: str = "resmoe-up",
    keep: Keep = KEEP.default,
    layers: Layers = "all",
    center: str = "wasserstein",
    solver: Solver = None,
    mode: Mode = None,
    seed: int = 0,
    match_bytes: Annotated[int | None, Parameter(help="Bytes that all chosen layers may take; decides --keep.")] = None,
    calibrate: Calibrate = None,
    tokens: TokenCount = 4096,
    data_dir: DataDir = None,
    export: Export = "packed",
    form: Form = None,
    values: Values = "bf16",
    scheduler: Scheduler = None,
    json: Json = False,
) -> None:
    """Compress layers and write them as a checkpoint with a manifest; resumes when run again."""
    from ..checkpoint import open_checkpoint
    from ..compress import compress_checkpoint, select_layers
    from ..experts import moe_layers
    from ..store.manifest import MANIFEST_FILE

    opened = open_checkpoint(checkpoint)
    chosen = select_layers(layers, moe_layers(opened))
    if match_bytes is not None:
        keep = matched_keep(opened, chosen, method=method, center=center, budget=match_bytes)
    how = chosen_method(method=method, keep=keep, center=center, solver=solver, mode=mode, seed=seed)
    how |= {"export": export, "form": form, "values": values}
    with progress_bar() as progress:
        if calibrate is not None:
            text: dict[str, Any] = {"text": calibrate, "tokens": tokens, "data_dir": data_dir, "device": "cpu"}
            fisher = center == "wasserstein-fisher"
            how["statistics"] = calibrated(opened, chosen, fisher=fisher, progress=progress, **text)
        manifest = compress_checkpoint(opened, out, layers=chosen, scheduler=scheduler, progress=progress, **how)
    keys = ("approximation_error", "relative_error", "bytes", "paper_bytes", "original_bytes")
    facts = {
        "layers": chosen,
        "keep": keep,
        **{key: manifest[key] for key in (*keys, "seconds", "peak_rss_bytes", "export")},
    }
    facts["manifest"] = str(out / MANIFEST_FILE)
    show(facts, json, lambda: show_facts(facts))


@app.command
def convert(checkpoint: str, *, out: Path, json: Json = False) -> None:
    """Write a DeepSeekMoE checkpoint, which transformers cannot open, as a Qwen2-MoE one that computes the same."""
    from ..checkpoint import open_checkpoint
    from ..checkpoint.conversion import deepseek_as_qwen2

    folder = deepseek_as_qwen2(open_checkpoint(checkpoint), out)
    facts = {"path": str(folder), "model_type": "qwen2_moe", "bytes": open_checkpoint(folder).total_bytes}
    show(facts, json, lambda: show_facts(facts))


def matched_keep(checkpoint: Any, layers: list[int], *, method: str, center: str, budget: int) -> float:
    """The kept fraction at which the chosen layers weigh no more than a budget, everything stored included."""
    from ..experts import family_of
    from ..methods import METHODS
    from ..store import match_bytes

    chosen, shape = METHODS[method](), family_of(checkpoint).layer_shape()
    return match_bytes(chosen, budget / len(layers), shape, center=chosen.uses_center and center != "none")
