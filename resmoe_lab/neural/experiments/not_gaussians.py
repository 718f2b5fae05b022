"""Table 3 of the NOT barycenter paper: maps between Gaussians and their barycenter, by dimension."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ._base import EXPERIMENTS, Case, Experiment, solver_case
from ._gaussian import centred_gaussians, gaussian_errors

DIMENSIONS = (2, 4, 8, 16, 64)
#: L2-UVP in percent as printed in Table 3, by dimension.
PUBLISHED = {
    "not": dict(zip(DIMENSIONS, (0.01, 0.02, 0.04, 0.04, 0.08), strict=True)),
    "egbary": dict(zip(DIMENSIONS, (0.02, 0.05, 0.06, 0.09, 0.84), strict=True)),
    "win": dict(zip(DIMENSIONS, (0.03, 0.08, 0.13, 0.25, 0.75), strict=True)),
}
_LONG: dict[str, dict[str, Any]] = {
    "not": {"steps": 2000},
    "egbary": {"steps": 300, "batch": 64},
    "win": {"steps": 600},
}
_QUICK: dict[str, dict[str, Any]] = {
    "not": {"steps": 250},
    "egbary": {"steps": 60, "batch": 64},
    "win": {"steps": 150, "width": 32},
}


def _cases(quick: bool) -> Iterator[Case]:
    for dimension in DIMENSIONS[:1] if quick else DIMENSIONS:
        problem = centred_gaussians(dimension, (0.5, 2.0), weights=(0.25, 0.25, 0.5))
        for solver, settings in (_QUICK if quick else _LONG).items():
            facts = {"dimension": dimension, "published": PUBLISHED[solver][dimension]}
            for plain in (False, True):
                yield solver_case(
                    f"{solver}{' plain' if plain else ''} D={dimension}",
                    problem,
                    solver,
                    measure=gaussian_errors(problem, count=4000),
                    settings=settings | {"plain": plain},
                    facts=facts,
                )


EXPERIMENTS.register("not-gaussians")(
    Experiment(
        "Maps to the barycenter of three Gaussians, by dimension",
        "Kolesov et al. (2024), appendix B.1, Table 3; L2-UVP of the maps",
        _cases,
    )
)
