"""Supplement B.1 of the NWB paper: the barycenters of all weights from one training."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from ..metrics import gaussian_barycenter, gaussian_kl, moments
from ..problem import Gaussian, Problem
from ._base import EXPERIMENTS, Case, Experiment, solver_case
from ._gaussian import POINTS

#: The paper's Gaussians, and its KL divergences for three weight vectors.
COVARIANCES = ([[0.5, 0.0], [0.0, 2.0]], [[2.0, 1.0], [1.0, 1.0]], [[2.0, -1.0], [-1.0, 1.0]])
PUBLISHED = {(0.5, 0.25, 0.25): 0.0235, (0.25, 0.5, 0.25): 0.0153, (0.25, 0.25, 0.5): 0.0114}


def three_gaussians() -> Problem:
    """Return the paper's problem."""
    return Problem([Gaussian([0.0, 0.0], covariance) for covariance in COVARIANCES])


def _cases(quick: bool) -> Iterator[Case]:
    problem = three_gaussians()

    def measure(solver: Any) -> dict[str, float]:
        """Return the closed-form KL divergence between fitted Gaussians."""
        return {
            f"KL at {'/'.join(f'{w:g}' for w in weights)}": gaussian_kl(
                moments(solver.sample(POINTS, weights=weights)),
                gaussian_barycenter(problem, weights=torch.tensor(weights)),
            )
            for weights in PUBLISHED
        }

    settings = {"steps": 450 if quick else 900}
    yield solver_case("nwb-f", problem, "nwb-f", measure=measure, settings=settings)


EXPERIMENTS.register("nwb-f")(
    Experiment(
        "Three Gaussians in the plane, all weights at once",
        "Fan, Taghvaei and Chen (2021), supplement B.1; KL to the exact barycenter, closed form on fitted Gaussians",
        _cases,
    )
)
