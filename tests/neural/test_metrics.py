"""Metrics against closed forms and against what they must be on known cases."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from resmoe_lab._core.errors import UsageError
from resmoe_lab.neural import (
    Gaussian,
    Problem,
    bures_uvp,
    convolutional_barycenter,
    gaussian_barycenter,
    gaussian_kl,
    gaussian_maps,
    l2_uvp,
    moments,
    random_covariance,
    sliced_w2,
)


def _moments(mean: list[float], covariance: object) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.tensor(mean, dtype=torch.float64), torch.as_tensor(covariance, dtype=torch.float64)


def test_bures_uvp_of_commuting_gaussians() -> None:
    exact = _moments([0, 0], np.diag([4.0, 1.0]))
    assert bures_uvp(exact, exact) == pytest.approx(0, abs=1e-9)
    # W2^2 = |mean|^2 + sum of (root differences)^2, over the trace.
    estimate = _moments([0.3, 0], np.diag([9.0, 1.0]))
    assert bures_uvp(estimate, exact) == pytest.approx(100 * (0.09 + 1) / 5)


def test_l2_uvp_of_the_mean_alone_is_a_hundred() -> None:
    truth = torch.randn(200_000, 3, generator=torch.Generator().manual_seed(0))
    assert l2_uvp(truth, truth, 3.0) == 0
    assert l2_uvp(torch.zeros_like(truth), truth, 3.0) == pytest.approx(100, rel=0.01)


def test_gaussian_kl_in_one_dimension() -> None:
    estimate, exact = _moments([1.0], [[4.0]]), _moments([0.0], [[9.0]])
    assert gaussian_kl(estimate, exact) == pytest.approx(np.log(3 / 2) + (4 + 1) / 18 - 0.5)


def test_sliced_w2_of_a_shift() -> None:
    cloud = torch.randn(400, 2, generator=torch.Generator().manual_seed(0))
    assert sliced_w2(cloud, cloud) == pytest.approx(0, abs=1e-6)
    # A shift by s moves every projection by s cos(angle): the mean square is s^2 / 2 in the plane.
    assert sliced_w2(cloud, cloud + torch.tensor([2.0, 0.0]), projections=2000) == pytest.approx(2**0.5, rel=0.05)


def test_the_gaussian_barycenter_solves_the_fixed_point_equation() -> None:
    covariances = [random_covariance(4, low=0.3, high=3, seed=seed) for seed in range(3)]
    problem = Problem([Gaussian(np.full(4, s), c) for s, c in enumerate(covariances)], [0.2, 0.3, 0.5])
    mean, covariance = gaussian_barycenter(problem)
    assert mean.numpy() == pytest.approx(np.full(4, 1.3))

    def root(matrix: np.ndarray) -> np.ndarray:
        values, vectors = np.linalg.eigh(matrix)
        return (vectors * np.sqrt(values)) @ vectors.T

    outer = root(covariance.numpy())
    again = sum(w * root(outer @ c @ outer) for w, c in zip([0.2, 0.3, 0.5], covariances, strict=True))
    assert again == pytest.approx(covariance.numpy(), abs=1e-5)


def test_exact_maps_push_every_marginal_to_the_barycenter(gaussians: Problem) -> None:
    exact = gaussian_barycenter(gaussians)
    for marginal, (matrix, _) in zip(gaussians.marginals, gaussian_maps(gaussians, exact), strict=True):
        assert (matrix.T @ marginal.covariance @ matrix).numpy() == pytest.approx(exact[1].numpy(), abs=1e-5)


def test_random_covariances_have_their_spectrum() -> None:
    assert np.linalg.eigvalsh(random_covariance(3, low=0.5, high=2, seed=1)) == pytest.approx([0.5, 1, 2])


def test_points_that_have_no_moments_are_refused() -> None:
    with pytest.raises(UsageError, match="n at least 2"):
        moments(torch.zeros(1, 2))
    with pytest.raises(UsageError, match="not finite"):
        moments(torch.tensor([[0.0], [float("nan")]]))


def _blob(down: float, across: float, *, deviation: float = 0.07, side: int = 24) -> torch.Tensor:
    """Ink of a round Gaussian in the unit square."""
    line = torch.linspace(0, 1, side, dtype=torch.float64)
    return torch.exp(-((line[:, None] - down) ** 2 + (line - across) ** 2) / (2 * deviation**2))


def test_the_barycenter_of_two_blobs_is_a_blob_between_them() -> None:
    """Not two faint ones: centre and spread are those of Gaussians, widened by the entropy alone."""
    first, second = _blob(0.3, 0.3), 5 * _blob(0.7, 0.5)
    made = convolutional_barycenter(torch.stack([first, second]), [0.25, 0.75], regularization=0.003)
    line = torch.linspace(0, 1, 24, dtype=torch.float64)
    assert float(made.sum()) == pytest.approx(1)
    center = float((made.sum(dim=1) * line).sum()), float((made.sum(dim=0) * line).sum())
    assert center == pytest.approx((0.6, 0.45), abs=0.005)
    variance = float((made.sum(dim=1) * (line - center[0]) ** 2).sum())
    assert 0.07**2 < variance < 0.07**2 + 0.003
    assert float(made.flatten().dot(first.flatten() / first.sum())) < 0.5 * float(made.square().sum())


def test_pictures_without_ink_are_refused() -> None:
    for wrong in (torch.zeros(4, 4), -torch.ones(4, 4), torch.full((4, 4), float("nan"))):
        with pytest.raises(UsageError, match="expected non-negative mass"):
            convolutional_barycenter(torch.stack([torch.ones(4, 4), wrong]))
    with pytest.raises(UsageError, match="weights add up to 2"):
        convolutional_barycenter(torch.ones(2, 4, 4), [1.0, 1.0])
