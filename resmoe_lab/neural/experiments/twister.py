"""Twister: a cost for which the barycenter of three twisted Gaussians is a standard Gaussian."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import ot
import torch

from ..costs import KL, Energy, Regularizer, transformed_cost, twist
from ..metrics import bures_uvp, moments
from ..problem import Gaussian, Marginal, Problem, Sampler
from ._base import EXPERIMENTS, Case, Experiment, solver_case
from ._gaussian import POINTS

CENTERS = ((0.0, 4.0), (-3.46, -2.0), (3.46, -2.0))
PRIOR = (5.0, 5.0)
#: For this cost maps and potentials oscillate at the default learning rate and momentum, and the images diverge.
_SETTINGS: dict[str, Any] = {"learning_rate": 1e-2, "momentum": 0.5, "inner": 4, "width": 64, "batch": 128}


def twisted_gaussian(center: tuple[float, float]) -> Marginal:
    """Return the distribution whose points are N(center, I) after :func:`twist`."""
    gaussian = Gaussian(center, torch.eye(2))
    return Sampler(lambda count, generator: twist(gaussian.sample(count, generator), turn=-0.4), 2)


def twisted_clouds() -> Problem:
    """Return the three distributions, whose barycenter for the cost of twisted points is N(0, I)."""
    return Problem([twisted_gaussian(center) for center in CENTERS])


def _measure(solver: Any) -> dict[str, float]:
    mean, covariance = moments(solver.sample(POINTS))
    truth = torch.zeros(2, dtype=torch.float64), torch.eye(2, dtype=torch.float64)
    prior = torch.tensor(PRIOR, dtype=torch.float64)
    return {
        "largest |mean|": float(mean.abs().max()),
        "largest |covariance - I|": float((covariance - torch.eye(2)).abs().max()),
        "BW2-UVP": bures_uvp((mean, covariance), truth),
        "Bures distance to the prior": float(
            ot.gaussian.bures_wasserstein_distance(mean, prior, covariance, torch.eye(2, dtype=torch.float64))
        ),
    }


def _cases(quick: bool) -> Iterator[Case]:
    problem, ground = twisted_clouds(), transformed_cost(twist)
    settings = {"steps": 400 if quick else 3000, **_SETTINGS}
    prior = Gaussian(PRIOR, torch.eye(2))
    yield solver_case(
        "classical",
        problem,
        "not",
        measure=_measure,
        settings=settings,
        facts={"strength": 0.0},
        grounds=ground,
    )
    for strength in (0.5, 2.0) if quick else (0.25, 1.0, 4.0):
        regularizers: dict[str, tuple[Regularizer, dict[str, Any]]] = {
            "KL": (KL(strength, PRIOR), {"plan": "gaussian", "draws": 4}),
            "energy": (Energy(strength, prior), {"plan": "stochastic", "draws": 4}),
        }
        for name, (regularizer, plan_settings) in regularizers.items():
            yield solver_case(
                f"{name} {strength:g}",
                problem,
                "not",
                measure=_measure,
                settings={**settings, **plan_settings, "batch": 64},
                facts={"strength": strength},
                grounds=ground,
                regularizer=regularizer,
            )


EXPERIMENTS.register("twister")(
    Experiment(
        "Twister: a non-Euclidean cost with a known barycenter, and two costs that pull to a prior",
        "Kolesov et al. (2024), section 5.1, Figure 1",
        _cases,
    )
)
