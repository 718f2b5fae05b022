"""Distributions are what they say, and bad ones are refused in one line."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from resmoe_lab import neural
from resmoe_lab._core.errors import UsageError
from resmoe_lab.neural import Gaussian, Mixture, Problem, Sampler, Samples


def _seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_a_gaussian_has_its_moments() -> None:
    covariance = np.array([[2.0, 1.0], [1.0, 1.0]])
    points = Gaussian([3.0, -1.0], covariance).sample(200_000, _seeded()).double()
    assert points.mean(dim=0).tolist() == pytest.approx([3, -1], abs=0.02)
    assert torch.cov(points.T).numpy() == pytest.approx(covariance, abs=0.03)


def test_a_mixture_draws_from_every_part() -> None:
    parts = [Gaussian([float(place)], [[1e-6]]) for place in range(4)]
    drawn = Mixture(parts).sample(40_000, _seeded()).round().flatten()
    assert torch.bincount(drawn.long()).div(40_000).tolist() == pytest.approx([0.25] * 4, abs=0.01)


def test_samples_are_drawn_from_the_given_points() -> None:
    points = np.arange(6.0).reshape(3, 2)
    drawn = Samples(points).sample(1000, _seeded())
    assert {tuple(row) for row in drawn.tolist()} == {(0, 1), (2, 3), (4, 5)}


def test_a_problem_stacks_its_marginals_and_fills_short_ones_with_zeros() -> None:
    wide, narrow = Gaussian(np.zeros(3), np.eye(3)), Sampler(lambda n, g: torch.ones(n, 1), 1)
    problem = Problem([wide, narrow], one_space=False)
    drawn = problem.sample(7, _seeded())
    assert drawn.shape == (2, 7, 3)
    assert drawn[1].tolist() == [[1, 0, 0]] * 7
    assert problem.weights.tolist() == [0.5, 0.5]


def test_moments_are_exact_for_gaussians_and_measured_for_others() -> None:
    points = np.random.default_rng(0).standard_normal((50, 2))
    means, covariances = Problem([Gaussian([1.0, 2.0], 2 * np.eye(2)), points]).moments()
    assert means[0].tolist() == [1, 2]
    assert covariances[1].numpy() == pytest.approx(np.cov(points.T), rel=1e-5)


def test_fingerprints_tell_problems_apart() -> None:
    first, same = (Problem([Gaussian([0.0], [[1.0]])] * 2) for _ in range(2))
    other = Problem([Gaussian([0.0], [[1.0]])] * 2, [0.4, 0.6])
    assert first.fingerprint() == same.fingerprint() != other.fingerprint()


_UNIT = Gaussian([0.0, 0.0], np.eye(2))


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Problem([]), "no distributions to average"),
        (lambda: Problem([_UNIT, Gaussian([0.0], [[1.0]])]), r"dimensions \[2, 1\], expected one for all"),
        (lambda: Problem([_UNIT, _UNIT], [0.7, 0.7]), "add up to 1.4, expected 1"),
        (lambda: Problem([_UNIT, _UNIT], [1.5, -0.5]), "none negative"),
        (lambda: Problem([_UNIT, _UNIT], [float("nan"), 1.0]), "finite"),
        (lambda: Problem([_UNIT, _UNIT], [1.0]), r"weights of shape \(1,\) for 2 distributions"),
        (lambda: Samples(np.empty((0, 2))), r"shape \(0, 2\)"),
        (lambda: Samples(np.ones(5)), r"shape \(5,\)"),
        (lambda: Samples(np.ones((5, 2))), "all 5 samples are the same point"),
        (lambda: Samples([[1.0, float("inf")], [0.0, 0.0]]), "1 of 2 samples are not finite"),
        (lambda: Gaussian([0.0, 0.0], [[1.0, 2.0], [2.0, 1.0]]), "positive definite"),
        (lambda: Gaussian([0.0], np.eye(2)), r"expected \(1, 1\)"),
    ],
)
def test_what_cannot_be_averaged_is_refused(make: object, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        make()


def test_the_old_name_goes_on_working() -> None:
    with pytest.warns(DeprecationWarning, match=r"use resmoe_lab\.neural\.Sampler"):
        assert neural.Drawn is Sampler
