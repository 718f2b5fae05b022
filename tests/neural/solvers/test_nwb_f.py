"""NWB-F: one training, the barycenters of all weights."""

from __future__ import annotations

import pytest
import torch

from resmoe_lab._core.errors import UsageError
from resmoe_lab.neural import Gaussian, Problem, gaussian_barycenter, gaussian_kl, moments, solve

#: Less than a thirtieth of what the benchmark takes.
_QUICK = {"steps": 100, "width": 12, "depth": 1, "inner": 3, "outer": 3, "weightings": 2, "learning_rate": 1e-2}


def test_one_training_gives_the_barycenters_of_all_weights() -> None:
    problem = Problem([Gaussian([-2.0, 0.0], [[0.5, 0], [0, 2]]), Gaussian([2.0, 0.0], [[2.0, 1], [1, 1]])])
    solver = solve(problem, "nwb-f", **_QUICK).solver
    points = problem.sample(5000, torch.Generator().manual_seed(3))
    for weights in ([0.7, 0.3], [0.3, 0.7]):
        exact = gaussian_barycenter(problem, weights=torch.tensor(weights))
        made = solver.sample(5000, weights=weights)
        assert made.mean(dim=0)[0] == pytest.approx(2 * (weights[1] - weights[0]), abs=0.3)
        assert gaussian_kl(moments(made), exact) < 0.2
        pushed = solver.push(points, weights=weights)
        assert max(gaussian_kl(moments(images), exact) for images in pushed) < 0.3


def test_weights_that_are_none_are_refused(gaussians: Problem) -> None:
    solver = solve(gaussians, "nwb-f", steps=1).solver
    with pytest.raises(UsageError, match="add up to 2"):
        solver.sample(5, weights=[1.0, 0.5, 0.5])
