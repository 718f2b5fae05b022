"""How far a computed barycenter is from a known one, and the barycenters that are known."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import ot
import torch
from torch import Tensor

from .._core.errors import UsageError
from .problem import Problem, check_weights

#: Mean (D,) and covariance (D, D), float64.
Moments = tuple[Tensor, Tensor]


def moments(points: Tensor) -> Moments:
    """Return the mean and the covariance of (n, D) points in float64.

    Raises
    ------
    UsageError
        If there are fewer than two points, or some are not finite.
    """
    if points.ndim != 2 or len(points) < 2:
        raise UsageError(f"points of shape {tuple(points.shape)}, expected (n, D) with n at least 2")
    if not bool(points.isfinite().all()):
        raise UsageError("some points are not finite, so that they have no covariance")
    table = points.double()
    return table.mean(dim=0), torch.cov(table.T).reshape(table.shape[1], table.shape[1])


def bures_uvp(found: Moments, exact: Moments) -> float:
    """Return the Bures-Wasserstein unexplained variance in percent; 0 is perfect, 100 what a single point scores.

    Parameters
    ----------
    found, exact
        Mean and covariance of the computed and of the true barycenter.

    References
    ----------
    BW2-UVP, equation (11) of Fan, Taghvaei and Chen (2021); W2 there carries a factor 1/2, which cancels.
    """
    distance = ot.gaussian.bures_wasserstein_distance(found[0], exact[0], found[1], exact[1])
    return 100.0 * float(distance) ** 2 / float(exact[1].trace())


def l2_uvp(mapped: Tensor, truth: Tensor, variance: float) -> float:
    """Return the unexplained variance of a map in percent: mean |T - T*|^2 over the barycenter's variance.

    Parameters
    ----------
    mapped, truth
        (M, D) images of the same points under the computed and under the true map.
    variance
        The trace of the true barycenter's covariance.

    References
    ----------
    L2-UVP, appendix B.1 of Kolesov et al. (2024).
    """
    squared = (mapped.double() - truth.double()).square().sum(dim=-1).mean()
    return 100.0 * float(squared) / variance


def sliced_w2(first: Tensor, second: Tensor, *, projections: int = 200, seed: int = 0) -> float:
    """Return the sliced 2-Wasserstein distance of two clouds (POT's)."""
    clouds = [points.detach().double().numpy() for points in (first, second)]
    return float(ot.sliced_wasserstein_distance(*clouds, n_projections=projections, seed=seed))


def gaussian_kl(found: Moments, exact: Moments) -> float:
    """Return KL(found || exact) between two Gaussians in nats, in closed form."""
    (mean, covariance), (center, scale) = found, exact
    inside, outside = (torch.distributions.MultivariateNormal(m, c) for m, c in ((mean, covariance), (center, scale)))
    return float(torch.distributions.kl_divergence(inside, outside))


def gaussian_barycenter(problem: Problem, *, weights: Tensor | None = None) -> Moments:
    """Return mean and covariance of the barycenter that Gaussians of the marginals' moments would have (POT's).

    Exact where the marginals are Gaussian.

    Parameters
    ----------
    problem
        What is averaged.
    weights
        (N,); the problem's own by default.
    """
    means, covariances = problem.moments()
    shares = (problem.weights if weights is None else weights).double()
    mean, covariance = ot.gaussian.bures_wasserstein_barycenter(
        means, covariances, weights=shares / shares.sum(), num_iter=2000, eps=1e-12
    )
    return mean, covariance


def gaussian_maps(problem: Problem, exact: Moments) -> list[tuple[Tensor, Tensor]]:
    """Return (A, b) of the affine maps x -> x A + b from every marginal to the barycenter of Gaussians (POT's)."""
    means, covariances = problem.moments()
    return [
        ot.gaussian.bures_wasserstein_mapping(mean, exact[0], covariance, exact[1])
        for mean, covariance in zip(means, covariances, strict=True)
    ]


def convolutional_barycenter(
    pictures: Tensor, weights: Sequence[float] | None = None, *, regularization: float = 0.003
) -> Tensor:
    """Return the barycenter of pictures that are themselves distributions: of mass in the unit square (POT's).

    Ink is moved, where the barycenter of distributions *over* pictures mixes pixels.

    Parameters
    ----------
    pictures
        (n, height, width) values that are not negative; each is divided by its sum.
    weights
        n of them; all alike by default.
    regularization
        Of the entropy: it blurs over about its square root.

    Returns
    -------
    Tensor
        (height, width) float64, sum 1.

    Raises
    ------
    UsageError
        If a picture is empty, or has values that are negative or not finite.

    References
    ----------
    Solomon et al., Convolutional Wasserstein distances (2015), as ``ot.bregman.convolutional_barycenter2d``.
    """
    shares = check_weights(weights, len(pictures)).double()
    masses = pictures.double()
    totals = masses.sum(dim=(1, 2), keepdim=True)
    if not bool(((masses >= 0) & masses.isfinite()).all()) or not bool((totals > 0).all()):
        raise UsageError("a picture is empty, or has negative or infinite values: expected amounts of ink")
    found = torch.as_tensor(
        ot.bregman.convolutional_barycenter2d(
            (masses / totals).numpy(), regularization, weights=(shares / shares.sum()).numpy()
        )
    )
    return found / found.sum()  # it stops a little before the masses are equal


def random_covariance(dimension: int, *, low: float, high: float, seed: int) -> np.ndarray:
    """Return a covariance with a random basis and eigenvalues evenly spaced in the logarithm from `low` to `high`."""
    basis, _ = np.linalg.qr(np.random.default_rng(seed).standard_normal((dimension, dimension)))
    return (basis * np.geomspace(low, high, dimension)) @ basis.T
