"""Verbs that look at a checkpoint: what it is, and what a common expert would gain."""

from __future__ import annotations

from typing import Annotated, Any

from cyclopts import Parameter

from .._core.params import KEEP
from ._app import app
from ._calibration import calibrated
from ._options import (
    Center,
    DataDir,
    Device,
    Json,
    Keep,
    Layers,
    RunningText,
    Seed,
    Solver,
    TokenCount,
    names,
    split_names,
    wasserstein_options,
)
from ._output import progress_bar, show, show_facts, show_table


@app.command
def inspect(checkpoint: str, *, json: Json = False) -> None:
    """Tell a checkpoint's family, layers, shapes and bytes without loading a tensor."""
    from dataclasses import asdict

    from ..checkpoint import open_checkpoint
    from ..experts import family_of

    opened = open_checkpoint(checkpoint)
    family = family_of(opened)
    if opened.packed:
        from ..runtime.packable import expert_bytes

        sizes = expert_bytes(opened)
    else:
        sizes = {layer: family.expert_bytes(opened, layer) for layer in family.layers(opened)}
    facts = {"checkpoint": opened.name, "family": family.name, "moe_layers": list(sizes), "packed": opened.packed}
    facts |= {**asdict(family.shape(opened.config)), "total_bytes": opened.total_bytes}
    facts["expert_bytes"] = sum(sizes.values())
    show(facts, json, lambda: show_facts(facts))


@app.command
def barycenter(
    checkpoint: str,
    *,
    layer: Annotated[int, Parameter(help="Number of a layer with experts.")],
    center: Center = "wasserstein",
    solver: Solver = None,
    start: Annotated[int | None, Parameter(help="Expert that the search starts from.")] = None,
    seed: Seed = 0,
    json: Json = False,
) -> None:
    """Find one layer's common expert and certify it."""
    from .._core.machine import peak_rss_bytes
    from ..centers import find_center
    from ..checkpoint import open_checkpoint
    from ..experts import load_stack

    options = wasserstein_options(center, solver=solver, start=start)
    stack = load_stack(open_checkpoint(checkpoint), layer=layer)
    with progress_bar() as progress:
        fitted = find_center(stack, center=center, seed=seed, progress=progress, **options)
    bound = fitted.certificate
    facts = {
        "checkpoint": checkpoint,
        "layer": layer,
        "center": center,
        "objective": fitted.objective,
        "relative_objective": fitted.objective / (stack.mean_squared_norm() or 1.0),
        "lower_bound": bound.lower_bound if bound else None,
        "certified_gap": bound.gap if bound else None,
        "solver": fitted.solver,
        "iterations": fitted.iterations,
        "seconds": fitted.seconds,
        "peak_rss_bytes": peak_rss_bytes(),
    }
    show(facts, json, lambda: show_facts(facts))


@app.command
def diagnose(
    checkpoint: str,
    *,
    layers: Layers = "all",
    centers: Annotated[list[str] | None, names("Centers to compare; the usual ones if not given.")] = None,
    keep: Keep = KEEP.default,
    routing: Annotated[bool, Parameter(help="Run the model on text to see who receives the tokens.")] = True,
    text: RunningText = "storyworld_perplexity",
    tokens: TokenCount = 4096,
    seed: Seed = 0,
    data_dir: DataDir = None,
    device: Device = "cpu",
    json: Json = False,
) -> None:
    """Tell what a common expert would gain in each layer, before anything is compressed."""
    from dataclasses import asdict

    from ..analysis.diagnosis import DEFAULT_CENTERS, diagnose
    from ..centers import CENTERS
    from ..checkpoint import open_checkpoint
    from ..compress import select_layers
    from ..experts import load_stack, moe_layers

    opened = open_checkpoint(checkpoint)
    chosen = select_layers(layers, moe_layers(opened))
    compared = split_names(centers) or DEFAULT_CENTERS
    for name in compared:
        CENTERS[name]
    known: dict[int, Any] = {}
    with progress_bar() as progress:
        if routing:
            fisher = "wasserstein-fisher" in compared
            options: dict[str, Any] = {"text": text, "tokens": tokens, "data_dir": data_dir, "device": device}
            known = calibrated(opened, chosen, fisher=fisher, progress=progress, **options)
        found = [
            diagnose(
                load_stack(opened, layer=layer, device=device),
                centers=compared,
                keep=keep,
                statistics=known.get(layer),
                seed=seed,
                progress=progress,
            )
            for layer in chosen
        ]

    def human() -> None:
        rows = [{"layer": one.layer, **one.residual_gain} for one in found]
        show_table(f"Share of the experts that a common expert explains in {checkpoint}", rows)
        for one in found:
            print(f"Layer {one.layer}. {one.advice}")  # noqa: T201

    show({"checkpoint": checkpoint, "layers": [asdict(one) for one in found]}, json, human)
