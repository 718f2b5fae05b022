"""Ellipsoids and rings of modes: other shapes than Gaussians, with a barycenter that is known exactly."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch

from ..metrics import gaussian_maps, random_covariance, sliced_w2
from ..multi_marginal import multi_marginal_plan
from ..problem import Problem
from ..scatter import Ball, LocationScatter, ring_of_modes, scatter_barycenter
from ._base import EXPERIMENTS, Case, Experiment, solver_case
from ._gaussian import known_errors

DIMENSIONS = (2, 8)
WEIGHTS = (0.25, 0.25, 0.5)
#: Points of the sliced distance, and of each distribution in the linear program.
_SLICED, _FEW = 2000, 10
_LONG: dict[str, dict[str, Any]] = {"nwb": {"steps": 1500, "batch": 100}, "not": {"steps": 2000}, "cwb": {"steps": 600}}
_QUICK: dict[str, dict[str, Any]] = {"nwb": {"steps": 300}, "not": {"steps": 250}, "cwb": {"steps": 300}}


def ellipsoids(dimension: int) -> Problem:
    """Return uniform ellipsoids at three places, with axes of 0.7 to 1.4 in random directions."""
    base, places = Ball(dimension), np.random.default_rng(0).standard_normal((len(WEIGHTS), dimension))
    matrices = [random_covariance(dimension, low=0.7, high=1.4, seed=seed) for seed in range(len(WEIGHTS))]
    return Problem([LocationScatter(base, *both) for both in zip(matrices, places, strict=True)], WEIGHTS)


def rings() -> Problem:
    """Return five modes on a circle, mapped in three ways whose weighted mean changes nothing.

    The base is not round, so the barycenter is known for such maps only: it is the circle itself.
    """
    base, places = ring_of_modes(5), np.random.default_rng(1).standard_normal((len(WEIGHTS), 2))
    matrices = [random_covariance(2, low=0.7, high=1.4, seed=seed) for seed in range(len(WEIGHTS) - 1)]
    rest = np.eye(2) - sum(weight * matrix for weight, matrix in zip(WEIGHTS, matrices, strict=False))
    matrices.append(rest / WEIGHTS[-1])
    return Problem([LocationScatter(base, *both) for both in zip(matrices, places, strict=True)], WEIGHTS)


def plan_gap(problem: Problem, barycenter: LocationScatter) -> float:
    """Return how far, in percent, the known plan of a few points costs more than the best plan: 0 if it is known right.

    Points of the barycenter are mapped back to every marginal; the known plan keeps together what came from one, the
    best one is found by linear programming, which knows no formula.
    """
    assert barycenter.known_moments is not None
    points = barycenter.sample(_FEW, torch.Generator().manual_seed(14)).double()
    maps = gaussian_maps(problem, barycenter.known_moments)
    sources = torch.stack([torch.linalg.solve(matrix.T, (points - offset).T).T for matrix, offset in maps])
    known = (problem.weights.double()[:, None, None] * (sources - points).square()).sum() / _FEW
    best, _ = multi_marginal_plan(sources, problem.weights)
    return 100 * (float(known) / best - 1)


def scatter_errors(problem: Problem) -> Callable[[Any], dict[str, float]]:
    """Return the metrics of Gaussians, the distance in shape with its floor, and the check of the truth."""
    barycenter = scatter_barycenter(problem)
    errors, gap = known_errors(problem, barycenter), plan_gap(problem, barycenter)
    truth, again = (barycenter.sample(_SLICED, torch.Generator().manual_seed(seed)) for seed in (23, 24))
    floor = sliced_w2(truth, again)

    def measure(solver: Any) -> dict[str, float]:
        shape = {"sliced W2": sliced_w2(solver.sample(_SLICED), truth), "sliced W2 floor": floor}
        return {**errors(solver), **shape, "known plan over exact plan, %": gap}

    return measure


def _cases(quick: bool) -> Iterator[Case]:
    problems = {f"ellipsoids D={dimension}": ellipsoids(dimension) for dimension in DIMENSIONS[: 1 if quick else None]}
    problems["five modes D=2"] = rings()
    for label, problem in problems.items():
        for solver, settings in _LONG.items():
            yield solver_case(
                f"{solver} {label}",
                problem,
                solver,
                measure=scatter_errors(problem),
                settings=settings | (_QUICK[solver] if quick else {}),
                facts={"dimension": problem.dimension},
            )


EXPERIMENTS.register("location-scatter")(
    Experiment(
        "Uniform ellipsoids, and rings of modes: shapes other than Gaussian with a known barycenter",
        "Alvarez-Esteban et al. (2016), the fixed point; where the papers show pictures only",
        _cases,
    )
)
