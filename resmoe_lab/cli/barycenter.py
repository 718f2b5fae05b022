"""The verb that finds one layer's center."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from .._core.errors import UsageError
from .._core.gaps import gap_facts
from ._app import app
from ._options import DEFAULT_CENTER, Center, Json, Seed, Solver, UsageFile, center_options
from ._output import progress_bar, show, show_facts


@app.command
def barycenter(
    checkpoint: str,
    *,
    layer: Annotated[int, Parameter(help="Number of a layer with experts.")],
    center: Center = DEFAULT_CENTER,
    solver: Solver = None,
    start: Annotated[int | None, Parameter(help="Expert that the search starts from.")] = None,
    usage: UsageFile = None,
    seed: Seed = 0,
    json: Json = False,
) -> None:
    """Find one layer's center and certify it."""
    from .._core.machine import peak_rss_bytes
    from ..centers import center_method
    from ..checkpoint import open_checkpoint
    from ..experts import family_of, load_stack
    from ..scoring.usage_trace import read_usage

    options = center_options(solver=solver, start=start)
    method = center_method(center, seed=seed, options=options)
    if method.needs_statistics and (usage is None or not method.needs_only_usage):
        raise UsageError(
            f"center {center!r} needs calibration statistics and has none: use diagnose --centers {center}"
        )
    opened = open_checkpoint(checkpoint)
    experts = family_of(opened).shape(opened.config).num_experts
    if start is not None and start not in range(experts):
        raise UsageError(f"--start is {start}, expected the number of an expert, 0 to {experts - 1}")
    trace = None if usage is None else read_usage(usage, opened)
    stack = load_stack(opened, layer=layer)
    statistics = None if trace is None else trace.statistics([layer])[layer]
    with progress_bar() as progress:
        fitted = method.find(stack, statistics=statistics, progress=progress)
    bound = fitted.certificate
    facts = {
        "checkpoint": checkpoint,
        "layer": layer,
        "center": center,
        "objective": fitted.objective,
        "relative_objective": fitted.objective / (stack.mean_squared_norm() or 1.0),
        "lower_bound": bound.lower_bound if bound else None,
        **(gap_facts(bound.gap, bound.kind) if bound else gap_facts(None, None)),
        "solver": fitted.solver,
        "iterations": fitted.iterations,
        "seconds": fitted.seconds,
        "peak_rss_bytes": peak_rss_bytes(),
    }
    show(facts, json, lambda: show_facts(facts))
