"""NWB on Gaussians, whose barycenter is known."""

from __future__ import annotations

import torch

from resmoe_lab.neural import Problem, bures_uvp, gaussian_barycenter, moments, solve


def test_both_recoveries_find_the_barycenter_of_gaussians(gaussians: Problem) -> None:
    solver = solve(gaussians, "nwb", steps=80).solver
    exact = gaussian_barycenter(gaussians)
    assert bures_uvp(moments(solver.sample(10_000)), exact) < 1.0
    points = gaussians.sample(10_000, torch.Generator().manual_seed(3))
    pushed = solver.push(points)
    # The paper's figure for maps: the weighted mean over the marginals.
    errors = torch.tensor([bures_uvp(moments(images), exact) for images in pushed])
    assert float(errors @ gaussians.weights) < 1.0
    # The maps back are those of the potentials f, and take the barycenter to the marginals.
    back = solver.back(solver.sample(10_000))
    for images, marginal in zip(back, gaussians.marginals, strict=True):
        assert bures_uvp(moments(images), (marginal.mean, marginal.covariance)) < 3.0


def test_potentials_stay_convex(gaussians: Problem) -> None:
    solver = solve(gaussians, "nwb", steps=10).solver
    assert all(bool((weight >= 0).all()) for _, weight, _ in solver.f.weights().layers[1:])
