"""Verbs that write checkpoints, and the forecast before them."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from ._app import app
from ._calibration import calibrated
from ._options import USUAL, Calibrate, Compression, DataDir, Json, Seed, TokenCount
from ._output import progress_bar, show, show_facts, show_table


@app.command
def plan(
    checkpoint: str,
    *,
    out: Annotated[Path, Parameter(help="Folder that the result would go to: its disk is what counts.")] = Path("."),
    how: Compression = USUAL,
    json: Json = False,
) -> None:
    """Tell what compressing layers will take, before any work; fails where this machine has too little."""
    from ..checkpoint import open_checkpoint
    from ..compress import forecast_run, select_layers
    from ..experts import moe_layers

    keywords = how.keywords()
    opened = open_checkpoint(checkpoint)
    found = forecast_run(opened, out, layers=select_layers(how.layers, moe_layers(opened)), **keywords)
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
    out: Annotated[Path, Parameter(help="Folder of the result, new or of a stopped run.")],
    how: Compression = USUAL,
    seed: Seed = 0,
    match_bytes: Annotated[int | None, Parameter(help="Bytes that all chosen layers may take; decides --keep.")] = None,
    calibrate: Calibrate = None,
    tokens: TokenCount = 4096,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Compress layers and write them as a checkpoint with a manifest; resumes when run again."""
    from ..checkpoint import open_checkpoint
    from ..compress import compress_checkpoint, select_layers
    from ..experts import moe_layers
    from ..store.manifest import MANIFEST_FILE

    opened = open_checkpoint(checkpoint)
    chosen = select_layers(how.layers, moe_layers(opened))
    if match_bytes is not None:
        how = replace(how, keep=matched_keep(opened, chosen, method=how.method, center=how.center, budget=match_bytes))
    keywords: dict[str, Any] = {**how.keywords(), "seed": seed}
    with progress_bar() as progress:
        if calibrate is not None:
            text: dict[str, Any] = {"text": calibrate, "tokens": tokens, "data_dir": data_dir, "device": "cpu"}
            fisher = how.center == "wasserstein-fisher"
            keywords["statistics"] = calibrated(opened, chosen, fisher=fisher, progress=progress, **text)
        manifest = compress_checkpoint(opened, out, layers=chosen, progress=progress, **keywords)
    keys = ("approximation_error", "relative_error", "bytes", "paper_bytes", "original_bytes")
    facts = {
        "layers": chosen,
        "keep": how.keep,
        **{key: manifest[key] for key in (*keys, "seconds", "peak_rss_bytes", "export")},
    }
    facts["manifest"] = str(out / MANIFEST_FILE)
    show(facts, json, lambda: show_facts(facts))


@app.command
def convert(
    checkpoint: str, *, out: Annotated[Path, Parameter(help="Folder of the result.")], json: Json = False
) -> None:
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
