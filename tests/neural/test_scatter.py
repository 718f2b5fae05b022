"""Distributions of one base: their moments, and barycenters that a linear program on points finds too."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from resmoe_lab._core.errors import UsageError
from resmoe_lab.neural import (
    Ball,
    Gaussian,
    LocationScatter,
    Marginal,
    Mixture,
    Problem,
    Samples,
    gaussian_barycenter,
    gaussian_maps,
    multi_marginal_plan,
    random_covariance,
    ring_of_modes,
    scatter_barycenter,
)
from resmoe_lab.neural.experiments.location_scatter import ellipsoids, plan_gap, rings


def _seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _spd(dimension: int, seed: int) -> np.ndarray:
    return random_covariance(dimension, low=0.5, high=2.0, seed=seed)


@pytest.mark.parametrize("base", [Ball(1), Ball(3), ring_of_modes(3), ring_of_modes(7, deviation=0.1)])
def test_bases_have_mean_zero_and_covariance_one(base: Marginal) -> None:
    points = base.sample(200_000, _seeded()).double()
    assert points.mean(dim=0).numpy() == pytest.approx(np.zeros(base.dimension), abs=0.02)
    assert torch.cov(points.T).reshape(base.dimension, -1).numpy() == pytest.approx(np.eye(base.dimension), abs=0.02)


def test_a_ball_is_filled_evenly() -> None:
    """The share of the points within a radius is the radius to the power of the dimension."""
    ball = Ball(3)
    distances = ball.sample(100_000, _seeded()).norm(dim=1) / ball.radius
    for radius in (0.25, 0.5, 0.75, 1.0):
        assert float((distances <= radius).double().mean()) == pytest.approx(radius**3, abs=0.01)


def test_an_ellipsoid_is_a_mapped_ball() -> None:
    ball, matrix = Ball(2), _spd(2, 0)
    ellipse = LocationScatter(ball, matrix, [3.0, -1.0])
    points = ellipse.sample(100_000, _seeded()).double()
    assert points.mean(dim=0).tolist() == pytest.approx([3, -1], abs=0.02)
    assert torch.cov(points.T).numpy() == pytest.approx(matrix @ matrix, abs=0.05)
    back = torch.linalg.solve(torch.as_tensor(matrix), (points - ellipse.offset).T)
    assert float(back.norm(dim=0).max()) <= ball.radius * (1 + 1e-5)
    means, covariances = Problem([ellipse]).moments()
    assert covariances[0].numpy() == pytest.approx(matrix @ matrix, rel=1e-12)
    assert means[0].tolist() == [3, -1]


def test_moments_of_mixtures_are_those_of_their_samples() -> None:
    mixture = Mixture([Gaussian([1.0, 0.0], _spd(2, 0)), LocationScatter(Ball(2), _spd(2, 1), [-2.0, 4.0])])
    assert mixture.known_moments is not None
    points = mixture.sample(400_000, _seeded()).double()
    assert mixture.known_moments[0].tolist() == pytest.approx(points.mean(dim=0).tolist(), abs=0.03)
    assert mixture.known_moments[1].numpy() == pytest.approx(torch.cov(points.T).numpy(), abs=0.06)
    assert Mixture([mixture, Samples([[0.0, 0.0], [1.0, 1.0]])]).known_moments is None


def test_the_barycenter_of_intervals_is_that_of_their_quantiles() -> None:
    """On a line, quantiles are averaged: of intervals, their ends."""
    ends = np.array([[0.0, 2.0], [5.0, 6.0], [-3.0, 1.0]])
    weights = [0.2, 0.3, 0.5]
    base = Ball(1)
    parts = [LocationScatter(base, [[(b - a) / 2 / base.radius]], [(a + b) / 2]) for a, b in ends]
    barycenter = scatter_barycenter(Problem(parts, weights))
    half = float(barycenter.matrix) * base.radius
    found = [float(barycenter.offset) - half, float(barycenter.offset) + half]
    assert found == pytest.approx((np.array(weights) @ ends).tolist(), abs=1e-5)


@pytest.mark.parametrize("problem", [ellipsoids(2), ellipsoids(3), rings()])
def test_no_plan_of_points_costs_less_than_the_known_one(problem: Problem) -> None:
    """What a linear program finds, which knows no formula; and the objective is that of the moments."""
    barycenter = scatter_barycenter(problem)
    assert plan_gap(problem, barycenter) == pytest.approx(0, abs=1e-6)
    assert barycenter.known_moments is not None
    for (matrix, offset), marginal in zip(
        gaussian_maps(problem, barycenter.known_moments), problem.marginals, strict=True
    ):
        own = marginal.sample(50_000, _seeded()).double() @ matrix + offset
        truth = barycenter.sample(50_000, _seeded(1)).double()
        for power in (2, 4):  # fourth moments tell shapes apart that second ones do not
            found, expected = ((cloud - barycenter.offset).abs().pow(power).mean(dim=0) for cloud in (own, truth))
            assert found.tolist() == pytest.approx(expected.tolist(), rel=0.05)


def test_the_ring_in_the_middle_is_the_ring_itself() -> None:
    barycenter = scatter_barycenter(rings())
    assert barycenter.matrix.numpy() == pytest.approx(np.eye(2), abs=1e-5)


def test_matrices_of_common_axes_are_averaged() -> None:
    base = ring_of_modes(5)
    parts = [LocationScatter(base, np.diag(axes), [0.0, 0.0]) for axes in ((1.0, 3.0), (2.0, 1.0))]
    assert scatter_barycenter(Problem(parts, [0.25, 0.75])).matrix.numpy() == pytest.approx(
        np.diag([1.75, 1.5]), abs=1e-5
    )


def test_rings_under_any_maps_are_refused_and_rightly() -> None:
    """The formula of Gaussians would be wrong: a plan of points cannot reach the cost that it promises."""
    angles = 2 * np.pi * np.arange(5) / 5
    circle = torch.from_numpy(np.sqrt(2) * np.stack([np.cos(angles), np.sin(angles)], axis=1))
    matrices = [torch.from_numpy(_spd(2, seed)) for seed in (0, 3, 5)]
    base = ring_of_modes(5, deviation=0.01)
    problem = Problem([LocationScatter(base, matrix, [0.0, 0.0]) for matrix in matrices])
    with pytest.raises(UsageError, match="barycenter of these distributions is not of their shape"):
        scatter_barycenter(problem)
    _, covariance = gaussian_barycenter(problem)
    promised = sum(float((matrix @ matrix).trace()) for matrix in matrices) / 3 - float(covariance.trace())
    found, _ = multi_marginal_plan(torch.stack([circle @ matrix for matrix in matrices]))
    assert found > 1.01 * promised


def test_what_is_no_such_distribution_is_refused() -> None:
    ball, one = Ball(2), np.eye(2)
    for arguments, message in (
        ((ball, -one, [0.0, 0.0]), "matrix is not symmetric and positive definite"),
        ((ball, np.array([[1.0, 0.5], [0.0, 1.0]]), [0.0, 0.0]), "matrix is not symmetric and positive definite"),
        ((ball, np.eye(3), [0.0, 0.0]), r"a matrix of shape \(3, 3\), expected \(2, 2\)"),
        ((Ball(3), one, [0.0, 0.0]), "a base of dimension 3 with a matrix of 2 rows"),
        ((Gaussian([1.0, 0.0], one), one, [0.0, 0.0]), "the base's moments are not known to be zero and the identity"),
        ((Samples(np.eye(2)), one, [0.0, 0.0]), "standardize it"),
    ):
        with pytest.raises(UsageError, match=message):
            LocationScatter(*arguments)
    with pytest.raises(UsageError, match=r"2 modes of deviation 0\.2, expected at least 3"):
        ring_of_modes(2)
    with pytest.raises(UsageError, match="a ball of dimension 0, expected at least 1"):
        Ball(0)
    for other in (LocationScatter(Ball(2), one, [0.0, 0.0]), Gaussian([0.0, 0.0], one)):
        with pytest.raises(UsageError, match="do not share one base object"):
            scatter_barycenter(Problem([LocationScatter(ball, one, [0.0, 0.0]), other]))
