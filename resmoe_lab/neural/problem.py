"""Barycenter problems: distributions that can be sampled, and their weights."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .._core.errors import UsageError

#: Tolerance of the sum of weights.
_TOLERANCE = 1e-6


class Marginal(ABC):
    """A distribution on R^D that can be sampled.

    Attributes
    ----------
    dimension
        D.
    known_moments
        Mean (D,) and covariance (D, D) in float64, where they are known.
    is_spherical
        Whether it is the same in every direction.
    """

    dimension: int
    known_moments: tuple[Tensor, Tensor] | None = None
    is_spherical: bool = False

    @abstractmethod
    def sample(self, count: int, generator: torch.Generator) -> Tensor:
        """Draw (count, D) float32 points."""


class Samples(Marginal):
    """The empirical distribution of points; batches are samples with replacement.

    Parameters
    ----------
    points : (n, D) array
        At least two points must differ.

    Raises
    ------
    UsageError
        If there are no points, all are the same, the array is not (n, D), or some values are not finite.

    Examples
    --------
    >>> Samples([[0.0, 1.0], [2.0, 3.0]]).dimension
    2
    """

    def __init__(self, points: np.ndarray | Tensor) -> None:
        table = torch.as_tensor(points).to(torch.float32)
        if table.ndim != 2 or not table.numel():
            raise UsageError(f"samples of shape {tuple(table.shape)}, expected (n, D) with n and D at least 1")
        if not bool(table.isfinite().all()):
            bad = int((~table.isfinite()).any(dim=1).sum())
            raise UsageError(f"{bad} of {len(table)} samples are not finite: leave them out, or repair them")
        if bool((table == table[0]).all()):
            raise UsageError(
                f"all {len(table)} samples are the same point, expected a distribution: its average is known"
            )
        self.points, self.dimension = table, table.shape[1]

    def sample(self, count: int, generator: torch.Generator) -> Tensor:
        """Draw with replacement."""
        return self.points[torch.randint(len(self.points), (count,), generator=generator)]


class Gaussian(Marginal):
    """N(mean, covariance).

    Parameters
    ----------
    mean : (D,) array
    covariance : (D, D) array
        Symmetric and positive definite.

    Raises
    ------
    UsageError
        If the shapes do not match, or the covariance is not positive definite.

    Examples
    --------
    >>> Gaussian([0.0, 0.0], torch.eye(2)).sample(5, torch.Generator()).shape
    torch.Size([5, 2])
    """

    def __init__(self, mean: Any, covariance: Any) -> None:
        self.mean = torch.as_tensor(mean, dtype=torch.float64)
        self.dimension = len(self.mean)
        self.covariance, root = checked_covariance(covariance, self.dimension, "covariance")
        self.known_moments = self.mean, self.covariance
        variance = self.covariance[0, 0]
        self.is_spherical = bool(
            torch.equal(self.covariance, variance * torch.eye(self.dimension, dtype=torch.float64))
        )
        self._root = root.float()

    def sample(self, count: int, generator: torch.Generator) -> Tensor:
        """Draw Gaussian points."""
        noise = torch.randn(count, self.dimension, generator=generator)
        return noise @ self._root.T + self.mean.float()


class Mixture(Marginal):
    """An equal mixture of distributions.

    Parameters
    ----------
    parts
        Distributions of one dimension.

    Examples
    --------
    >>> Mixture([Gaussian([0.0], [[1.0]]), Gaussian([9.0], [[1.0]])]).dimension
    1
    """

    def __init__(self, parts: Sequence[Marginal]) -> None:
        self.parts = tuple(parts)
        self.dimension = _one_dimension(self.parts)
        known = [part.known_moments for part in self.parts]
        means = torch.stack([moments[0] for moments in known if moments is not None] or [torch.zeros(self.dimension)])
        if len(means) == len(known):
            within = torch.stack([moments[1] for moments in known if moments is not None]).mean(dim=0)
            spread = means - means.mean(dim=0)
            self.known_moments = means.mean(dim=0), within + spread.T @ spread / len(means)

    def sample(self, count: int, generator: torch.Generator) -> Tensor:
        """Draw a part for every point, then the point."""
        indices = torch.randint(len(self.parts), (count,), generator=generator)
        samples = torch.stack([part.sample(count, generator) for part in self.parts])
        return samples[indices, torch.arange(count)]


class Sampler(Marginal):
    """The distribution of a sampling function.

    Parameters
    ----------
    draw
        Called with a count and a generator; returns (count, dimension) float32 points.
    dimension
        D.

    Examples
    --------
    >>> uniform = Sampler(lambda count, generator: torch.rand(count, 2, generator=generator), 2)
    >>> uniform.sample(3, torch.Generator()).shape
    torch.Size([3, 2])
    """

    def __init__(self, draw: Callable[[int, torch.Generator], Tensor], dimension: int) -> None:
        self._draw, self.dimension = draw, dimension

    def sample(self, count: int, generator: torch.Generator) -> Tensor:
        """Call the function."""
        return self._draw(count, generator)


class Problem:
    """A barycenter problem: distributions and their weights.

    Parameters
    ----------
    marginals
        N distributions (or (n, D) arrays of samples).
    weights
        N non-negative numbers that sum to one (default: equal).
    one_space
        Whether all marginals must have the same dimension.

    Attributes
    ----------
    dimension
        The largest dimension of the marginals.

    Raises
    ------
    UsageError
        If there are no marginals, their dimensions differ, or the weights are invalid.

    References
    ----------
    Equation (3) of Fan, Taghvaei and Chen (2021), equation (5) of Kolesov et al. (2024).

    Examples
    --------
    >>> problem = Problem([Gaussian([0.0], [[1.0]]), Gaussian([2.0], [[9.0]])], weights=[0.25, 0.75])
    >>> len(problem), problem.dimension
    (2, 1)
    """

    def __init__(
        self,
        marginals: Sequence[Marginal | np.ndarray | Tensor],
        weights: Sequence[float] | None = None,
        *,
        one_space: bool = True,
    ) -> None:
        if not len(marginals):
            raise UsageError("there are no distributions to average, expected at least one")
        self.marginals = tuple(m if isinstance(m, Marginal) else Samples(m) for m in marginals)
        self.weights = check_weights(weights, len(self.marginals))
        self.dimension = (
            _one_dimension(self.marginals) if one_space else max(marginal.dimension for marginal in self.marginals)
        )

    def __len__(self) -> int:
        return len(self.marginals)

    def sample(self, count: int, generator: torch.Generator) -> Tensor:
        """Draw (N, count, D) points; marginals of a smaller dimension are padded with zeros."""
        samples = [marginal.sample(count, generator) for marginal in self.marginals]
        missing = [self.dimension - points.shape[1] for points in samples]
        return torch.stack(
            [torch.nn.functional.pad(p, (0, n)) if n else p for p, n in zip(samples, missing, strict=True)]
        )

    def moments(self, count: int = 20_000, *, seed: int = 0) -> tuple[Tensor, Tensor]:
        """Return the (N, D) means and (N, D, D) covariances in float64, exact where they are known."""
        generator = torch.Generator().manual_seed(seed)
        means, covariances = [], []
        for marginal in self.marginals:
            if marginal.known_moments is not None:
                means.append(marginal.known_moments[0])
                covariances.append(marginal.known_moments[1])
                continue
            points = marginal.points if isinstance(marginal, Samples) else marginal.sample(count, generator)
            points = points.double()
            means.append(points.mean(dim=0))
            covariances.append(torch.cov(points.T).reshape(marginal.dimension, marginal.dimension))
        return torch.stack(means), torch.stack(covariances)

    def fingerprint(self) -> str:
        """Return a hash of the weights and of samples of the marginals."""
        samples = self.sample(64, torch.Generator().manual_seed(0))
        return hashlib.sha256(samples.numpy().tobytes() + self.weights.numpy().tobytes()).hexdigest()[:16]


def check_weights(weights: Sequence[float] | Tensor | None, count: int) -> Tensor:
    """Return the weights as (count,) float32 (None: equal weights).

    Raises
    ------
    UsageError
        If their number is not `count`, one is negative or not finite, or they do not add up to one.
    """
    if weights is None:
        return torch.full((count,), 1.0 / count)
    weights = torch.as_tensor(weights, dtype=torch.float64)
    if weights.shape != (count,):
        raise UsageError(f"weights of shape {tuple(weights.shape)} for {count} distributions, expected ({count},)")
    if not bool(weights.isfinite().all()) or bool((weights < 0).any()):
        raise UsageError(f"weights {weights.tolist()}: each must be a finite number, and none negative")
    if abs(float(weights.sum()) - 1.0) > _TOLERANCE:
        raise UsageError(f"weights add up to {float(weights.sum()):g}, expected 1: divide them by their sum")
    return weights.float()


def checked_covariance(matrix: Any, dimension: int, name: str) -> tuple[Tensor, Tensor]:
    """Return a symmetric and positive definite (D, D) matrix in float64, and its Cholesky factor.

    Raises
    ------
    UsageError
        If it is none, or of another shape.
    """
    checked = torch.as_tensor(matrix, dtype=torch.float64)
    if checked.shape != (dimension, dimension):
        raise UsageError(
            f"a mean of {dimension} numbers with a {name} of shape {tuple(checked.shape)}, "
            f"expected ({dimension}, {dimension})"
        )
    root, failed = torch.linalg.cholesky_ex(checked)
    if bool(failed) or not torch.allclose(checked, checked.T):
        raise UsageError(f"the {name} is not symmetric and positive definite, as it must be")
    return checked, root


def _one_dimension(marginals: Sequence[Marginal]) -> int:
    dimensions = [marginal.dimension for marginal in marginals]
    if len(set(dimensions)) != 1:
        raise UsageError(f"the distributions have dimensions {dimensions}, expected one for all")
    return dimensions[0]
