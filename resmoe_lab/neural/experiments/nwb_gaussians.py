"""Figure 5 of the NWB paper: how the error grows with the dimension."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ._base import EXPERIMENTS, Case, Experiment, solver_case
from ._gaussian import centred_gaussians, gaussian_errors

DIMENSIONS = (2, 4, 8, 16, 32, 64)
_SOLVERS = ("nwb", "cwb", "crwb", "cdwb")


def _settings(solver: str, dimension: int, *, quick: bool) -> dict[str, Any]:
    long: dict[str, dict[str, Any]] = {
        "nwb": {"steps": 600, "width": max(10, 2 * dimension), "batch": 100},
        "cwb": {"steps": 600},
        "crwb": {"steps": 600},
        "cdwb": {"steps": 10},
    }
    short = {"nwb": {"steps": 300}, "cwb": {"steps": 300}, "crwb": {"steps": 300}, "cdwb": {"steps": 5}}
    return long[solver] | (short[solver] if quick else {})


def _cases(quick: bool) -> Iterator[Case]:
    for dimension in DIMENSIONS[:1] if quick else DIMENSIONS:
        # A condition number of 9: less than 10, as in the paper.
        problem = centred_gaussians(dimension, (1 / 3, 3.0), weights=(1 / 3, 1 / 3, 1 / 3))
        for solver in _SOLVERS:
            yield solver_case(
                f"{solver} D={dimension}",
                problem,
                solver,
                measure=gaussian_errors(problem),
                settings=_settings(solver, dimension, quick=quick),
                facts={"dimension": dimension},
            )


EXPERIMENTS.register("nwb-gaussians")(
    Experiment(
        "The barycenter of three Gaussians, by dimension",
        "Fan, Taghvaei and Chen (2021), Figure 5; BW2-UVP",
        _cases,
    )
)
