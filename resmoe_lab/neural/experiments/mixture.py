"""One marginal with ten modes: mode coverage of generative models."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from ..metrics import sliced_w2
from ..problem import Gaussian, Mixture, Problem
from ._base import EXPERIMENTS, Case, Experiment, solver_case
from ._gaussian import POINTS

MODES, RADIUS, DEVIATION = 10, 4.0, 0.3
#: A mode is hit if at least this fraction of its expected number of points is within three deviations.
_HIT_FRACTION = 0.3
_SOLVERS = {
    "nwb": ({"steps": 1500, "width": 32, "depth": 3, "batch": 256, "latent": 2}, {"steps": 400}),
    "w2gn": ({"steps": 3000, "width": 64}, {"steps": 400}),
    "wgan-gp": ({"steps": 6000}, {"steps": 600}),
}


def mode_centers() -> Tensor:
    """Return the ten centers on a circle, (10, 2)."""
    angles = torch.arange(MODES) * (2 * math.pi / MODES)
    return RADIUS * torch.stack([angles.cos(), angles.sin()], dim=1)


def ten_modes() -> Problem:
    """Return the mixture as a problem of one marginal."""
    covariance = DEVIATION**2 * torch.eye(2)
    return Problem([Mixture([Gaussian(center, covariance) for center in mode_centers()])])


def modes_hit(points: Tensor) -> dict[str, float]:
    """Return the number of modes that points hit, and the fraction of points near a mode."""
    distances = torch.cdist(points, mode_centers())
    near = distances.min(dim=1).values < 3 * DEVIATION
    counts = torch.bincount(distances.argmin(dim=1)[near], minlength=MODES)
    return {
        "modes hit": int((counts > _HIT_FRACTION * len(points) / MODES).sum()),
        "share near a mode": float(near.float().mean()),
    }


def _cases(quick: bool) -> Iterator[Case]:
    problem = ten_modes()
    truth = problem.sample(2000, torch.Generator().manual_seed(13))[0]

    def measure(solver: Any) -> dict[str, float]:
        samples = solver.sample(POINTS)
        return {**modes_hit(samples), "sliced W2": sliced_w2(samples[:2000], truth)}

    for solver, (long, short) in _SOLVERS.items():
        settings = {**long, **(short if quick else {})}
        yield solver_case(solver, problem, solver, measure=measure, settings=settings)


EXPERIMENTS.register("mixture")(
    Experiment(
        "A mixture of ten Gaussians from one marginal",
        "Fan, Taghvaei and Chen (2021), section 4.5, Figure 3; the printed figure gives no centers: a circle here",
        _cases,
    )
)
