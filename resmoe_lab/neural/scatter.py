"""Distributions of other shapes than Gaussians, whose barycenter is known all the same."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from .._core.errors import UsageError
from .metrics import gaussian_barycenter
from .problem import Gaussian, Marginal, Mixture, Problem, checked_covariance

#: Tolerance of a base's moments, and of maps that have to agree.
_TOLERANCE = 1e-6


class Ball(Marginal):
    """The uniform distribution on the ball around zero with radius sqrt(D + 2), whose covariance is the identity.

    Parameters
    ----------
    dimension
        D.

    Examples
    --------
    >>> bool((Ball(2).sample(100, torch.Generator()).norm(dim=1) <= 2).all())
    True
    """

    is_spherical = True

    def __init__(self, dimension: int) -> None:
        if dimension < 1:
            raise UsageError(f"a ball of dimension {dimension}, expected at least 1")
        self.dimension, self.radius = dimension, math.sqrt(dimension + 2)
        self.known_moments = _standard(dimension)

    def sample(self, count: int, generator: torch.Generator) -> Tensor:
        """Draw directions, and distances from the center whose D-th powers are uniform."""
        noise = torch.randn(count, self.dimension, generator=generator)
        distances = self.radius * torch.rand(count, 1, generator=generator) ** (1 / self.dimension)
        return noise / noise.norm(dim=1, keepdim=True) * distances


def ring_of_modes(count: int = 5, *, deviation: float = 0.2) -> Mixture:
    """Return round Gaussian modes on a circle of the plane, with mean zero and the identity as covariance.

    Parameters
    ----------
    count
        Number of modes, at least 3.
    deviation
        Standard deviation of each, below 1: the radius is such that the whole has variance 1.

    Raises
    ------
    UsageError
        If there are fewer, or they are wider.

    Examples
    --------
    >>> len(ring_of_modes(5).parts)
    5
    """
    if count < 3 or not 0 < deviation < 1:
        raise UsageError(
            f"{count} modes of deviation {deviation:g}, expected at least 3 of a deviation between 0 and 1: fewer have "
            "no round covariance"
        )
    angles = torch.arange(count, dtype=torch.float64) * (2 * math.pi / count)
    centers = math.sqrt(2 * (1 - deviation**2)) * torch.stack([angles.cos(), angles.sin()], dim=1)
    return Mixture([Gaussian(center, deviation**2 * torch.eye(2)) for center in centers])


class LocationScatter(Marginal):
    """The distribution of A x + b, where x has a base distribution of mean zero whose covariance is the identity.

    Parameters
    ----------
    base
        Distribution of x: :class:`Ball`, :func:`ring_of_modes`, a standard :class:`~resmoe_lab.neural.Gaussian`, or
        another whose moments are known.
    matrix : (D, D) array
        A, symmetric and positive definite.
    offset : (D,) array
        b.

    Raises
    ------
    UsageError
        If the base is not standard, the shapes do not match, or A is not symmetric and positive definite.

    Examples
    --------
    >>> ellipse = LocationScatter(Ball(2), [[2.0, 0.0], [0.0, 1.0]], [5.0, 0.0])
    >>> ellipse.known_moments[1].tolist()
    [[4.0, 0.0], [0.0, 1.0]]
    """

    def __init__(self, base: Marginal, matrix: Any, offset: Any) -> None:
        self.base = base
        self.offset = torch.as_tensor(offset, dtype=torch.float64)
        self.matrix = checked_covariance(matrix, len(self.offset), "matrix")[0]
        self.dimension = len(self.offset)
        if base.dimension != self.dimension:
            raise UsageError(
                f"a base of dimension {base.dimension} with a matrix of {self.dimension} rows, expected as many"
            )
        known = base.known_moments
        if known is None or not all(
            torch.allclose(found, wanted, atol=_TOLERANCE)
            for found, wanted in zip(known, _standard(base.dimension), strict=True)
        ):
            raise UsageError("the base's moments are not known to be zero and the identity: standardize it")
        self.known_moments = self.offset, self.matrix @ self.matrix

    def sample(self, count: int, generator: torch.Generator) -> Tensor:
        """Draw points of the base, and map them."""
        return self.base.sample(count, generator) @ self.matrix.float() + self.offset.float()


def scatter_barycenter(problem: Problem) -> LocationScatter:
    """Return the barycenter of distributions of one base, which is of that base too.

    Its mean is the mean of the means, its covariance that of the barycenter of Gaussians with the marginals' moments
    (their fixed point). That holds if the base is spherical; otherwise only where the optimal maps between Gaussians
    take the base to every marginal, as they do if the matrices have common axes, or if their weighted mean is a
    multiple of the identity.

    Parameters
    ----------
    problem
        Marginals of one base.

    Raises
    ------
    UsageError
        If they are not of one base, or it is not spherical and the matrices fulfil no such condition: the barycenter
        is then of another shape, which nobody knows in closed form.

    References
    ----------
    Alvarez-Esteban, del Barrio, Cuesta-Albertos and Matran, A fixed-point approach to barycenters in Wasserstein space
    (2016); Gelbrich (1990) for which families the distance of Gaussians is the distance; Agueh and Carlier, Barycenters
    in the Wasserstein space (2011), proposition 3.8, for the condition on maps.

    Examples
    --------
    >>> disk = Ball(2)
    >>> disks = [LocationScatter(disk, size * torch.eye(2), [place, 0.0]) for size, place in ((1.0, 0.0), (3.0, 4.0))]
    >>> barycenter = scatter_barycenter(Problem(disks))
    >>> barycenter.offset.tolist(), round(float(barycenter.matrix[0, 0]), 4)
    ([2.0, 0.0], 2.0)
    """
    parts = [marginal for marginal in problem.marginals if isinstance(marginal, LocationScatter)]
    if len(parts) < len(problem) or any(part.base is not parts[0].base for part in parts):
        raise UsageError("the distributions do not share one base object, expected LocationScatter marginals of one")
    mean, covariance = gaussian_barycenter(problem)
    values, vectors = torch.linalg.eigh(covariance)
    matrix = (vectors * values.sqrt()) @ vectors.T
    base = parts[0].base
    if not base.is_spherical:
        inverse = (vectors * values.rsqrt()) @ vectors.T
        maps = [part.matrix @ inverse for part in parts]
        skew = max(float((one - one.T).abs().max() / one.abs().max()) for one in maps)
        if skew > math.sqrt(_TOLERANCE):
            raise UsageError(
                f"the barycenter of these distributions is not of their shape (maps {skew:.2g} from symmetric): "
                "take a spherical base, matrices of common axes, or such whose mean is a multiple of the identity"
            )
    return LocationScatter(base, matrix, mean)


def _standard(dimension: int) -> tuple[Tensor, Tensor]:
    return torch.zeros(dimension, dtype=torch.float64), torch.eye(dimension, dtype=torch.float64)
