"""Error metrics of computed barycenters, and barycenters that are known in closed form or by POT."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import ot
import torch
from torch import Tensor

from .._core.deprecation import renamed_arguments
from .._core.errors import UsageError
from .problem import Problem, check_weights

#: Mean (D,) and covariance (D, D), float64.
Moments = tuple[Tensor, Tensor]


def moments(points: Tensor) -> Moments:
    """Return the mean and the covariance of points.

    Parameters
    ----------
    points
        (n, D), of any dtype.

    Returns
    -------
    mean, covariance
        (D,) and (D, D) float64.

    Raises
    ------
    UsageError
        If there are fewer than two points, or some are not finite.

    Examples
    --------
    >>> moments(torch.tensor([[0.0], [2.0]]))
    (tensor([1.], dtype=torch.float64), tensor([[2.]], dtype=torch.float64))
    """
    if points.ndim != 2 or len(points) < 2:
        raise UsageError(f"points of shape {tuple(points.shape)}, expected (n, D) with n at least 2")
    if not bool(points.isfinite().all()):
        raise UsageError("some points are not finite, expected finite ones: they have no covariance")
    points64 = points.double()
    return points64.mean(dim=0), torch.cov(points64.T).reshape(points64.shape[1], points64.shape[1])


@renamed_arguments(found="computed")
def bures_uvp(computed: Moments, exact: Moments) -> float:
    """Return the Bures-Wasserstein unexplained variance percentage: 0 is perfect, 100 the score of a single point.

    Parameters
    ----------
    computed, exact
        Moments of the computed and of the true barycenter.

    References
    ----------
    BW2-UVP, equation (11) of Fan, Taghvaei and Chen (2021); their W2 has a factor 1/2, which cancels.

    Examples
    --------
    >>> identity = torch.eye(2, dtype=torch.float64)
    >>> origin = torch.zeros(2, dtype=torch.float64)
    >>> round(bures_uvp((origin + 1, identity), (origin, identity)), 6)
    100.0
    """
    distance = ot.gaussian.bures_wasserstein_distance(computed[0], exact[0], computed[1], exact[1])
    return 100.0 * float(distance) ** 2 / float(exact[1].trace())


def l2_uvp(mapped: Tensor, truth: Tensor, variance: float) -> float:
    """Return the unexplained variance percentage of a map: mean |T - T*|^2 over the barycenter's variance.

    Parameters
    ----------
    mapped, truth
        (M, D) images of the same points under the computed and under the true map.
    variance
        The trace of the true barycenter's covariance.

    References
    ----------
    L2-UVP, appendix B.1 of Kolesov et al. (2024).

    Examples
    --------
    >>> l2_uvp(torch.ones(5, 2), torch.zeros(5, 2), variance=4.0)
    50.0
    """
    squared = (mapped.double() - truth.double()).square().sum(dim=-1).mean()
    return 100.0 * float(squared) / variance


def sliced_w2(first: Tensor, second: Tensor, *, projections: int = 200, seed: int = 0) -> float:
    """Return the sliced 2-Wasserstein distance of two point clouds (POT's).

    Parameters
    ----------
    first, second
        (n, D) and (m, D).
    projections, seed
        Number of random projections, and their seed.

    Examples
    --------
    >>> round(sliced_w2(torch.zeros(5, 1), torch.ones(5, 1)), 6)
    1.0
    """
    clouds = [points.detach().double().numpy() for points in (first, second)]
    return float(ot.sliced_wasserstein_distance(*clouds, n_projections=projections, seed=seed))


@renamed_arguments(found="computed")
def gaussian_kl(computed: Moments, exact: Moments) -> float:
    """Return KL(computed || exact) between two Gaussians in nats, in closed form.

    Parameters
    ----------
    computed, exact
        Mean and covariance of both.

    Examples
    --------
    >>> one = torch.ones(1), torch.eye(1)
    >>> gaussian_kl(one, (torch.zeros(1), torch.eye(1)))
    0.5
    """
    gaussians = [torch.distributions.MultivariateNormal(mean, covariance) for mean, covariance in (computed, exact)]
    return float(torch.distributions.kl_divergence(*gaussians))


def gaussian_barycenter(problem: Problem, *, weights: Tensor | None = None) -> Moments:
    """Return mean and covariance of the barycenter of Gaussians with the marginals' moments (POT's).

    It is the exact barycenter if the marginals are Gaussian.

    Parameters
    ----------
    problem
        The marginals and their weights.
    weights
        (N,) other weights (default: the problem's).

    Returns
    -------
    mean, covariance
        (D,) and (D, D) float64.

    Examples
    --------
    >>> from resmoe_lab.neural import Gaussian
    >>> problem = Problem([Gaussian([0.0], [[1.0]]), Gaussian([2.0], [[9.0]])])
    >>> mean, covariance = gaussian_barycenter(problem)
    >>> round(float(mean), 4), round(float(covariance), 4)
    (1.0, 4.0)
    """
    means, covariances = problem.moments()
    normalized = (problem.weights if weights is None else weights).double()
    mean, covariance = ot.gaussian.bures_wasserstein_barycenter(
        means, covariances, weights=normalized / normalized.sum(), num_iter=2000, eps=1e-12
    )
    return mean, covariance


def gaussian_maps(problem: Problem, exact: Moments) -> list[tuple[Tensor, Tensor]]:
    """Return the affine maps x -> x A + b from every marginal to the barycenter of Gaussians (POT's).

    Parameters
    ----------
    problem
        The marginals.
    exact
        Mean and covariance of the barycenter, see :func:`~resmoe_lab.neural.gaussian_barycenter`.

    Returns
    -------
    list of (A, b)
        (D, D) and (D,) float64.

    Examples
    --------
    >>> from resmoe_lab.neural import Gaussian
    >>> problem = Problem([Gaussian([0.0], [[1.0]]), Gaussian([2.0], [[9.0]])])
    >>> matrix, offset = gaussian_maps(problem, gaussian_barycenter(problem))[0]
    >>> round(float(matrix), 4), round(float(offset), 4)
    (2.0, 1.0)
    """
    means, covariances = problem.moments()
    return [
        ot.gaussian.bures_wasserstein_mapping(mean, exact[0], covariance, exact[1])
        for mean, covariance in zip(means, covariances, strict=True)
    ]


def convolutional_barycenter(
    pictures: Tensor, weights: Sequence[float] | None = None, *, regularization: float = 0.003
) -> Tensor:
    """Return the barycenter of images as distributions of mass in the unit square (POT's).

    Mass is transported, whereas the barycenter of distributions *over* images mixes pixel values.

    Parameters
    ----------
    pictures
        (n, height, width) non-negative values; each image is divided by its sum.
    weights
        (n,) non-negative, summing to one (default: equal).
    regularization
        Entropic regularization, which blurs over about its square root.

    Returns
    -------
    Tensor
        (height, width) float64, sum 1.

    Raises
    ------
    UsageError
        If an image is zero, or has negative or infinite values.

    References
    ----------
    Solomon et al., Convolutional Wasserstein distances (2015), as ``ot.bregman.convolutional_barycenter2d``.

    Examples
    --------
    >>> images = torch.zeros(2, 9, 9)
    >>> images[0, 4, 1] = images[1, 4, 7] = 1.0
    >>> divmod(int(convolutional_barycenter(images).argmax()), 9)
    (4, 4)
    """
    normalized = check_weights(weights, len(pictures)).double()
    masses = pictures.double()
    totals = masses.sum(dim=(1, 2), keepdim=True)
    if not bool(((masses >= 0) & masses.isfinite()).all()) or not bool((totals > 0).all()):
        raise UsageError("an image is empty, or has negative or infinite values: expected non-negative mass")
    computed = torch.as_tensor(
        ot.bregman.convolutional_barycenter2d(
            (masses / totals).numpy(), regularization, weights=(normalized / normalized.sum()).numpy()
        )
    )
    return computed / computed.sum()  # the solver stops before the masses are exactly equal


def random_covariance(dimension: int, *, low: float, high: float, seed: int) -> np.ndarray:
    """Return a (D, D) covariance with a random basis and eigenvalues log-spaced from `low` to `high`.

    Examples
    --------
    >>> random_covariance(3, low=0.5, high=2.0, seed=0).shape
    (3, 3)
    """
    basis, _ = np.linalg.qr(np.random.default_rng(seed).standard_normal((dimension, dimension)))
    return (basis * np.geomspace(low, high, dimension)) @ basis.T
