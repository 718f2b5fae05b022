"""What is averaged: distributions that can be sampled, and their weights."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .._core.errors import UsageError

#: How far weights may be from adding up to one.
_SLACK = 1e-6


class Marginal(ABC):
    """A distribution on R^D that can be sampled without end.

    Attributes
    ----------
    dimension
        D.
    """

    dimension: int

    @abstractmethod
    def sample(self, count: int, generator: torch.Generator) -> Tensor:
        """Draw (count, D) float32 points."""


class Samples(Marginal):
    """The empirical distribution of given points; batches are drawn with replacement.

    Parameters
    ----------
    points : (n, D) array
        At least two of them must differ.

    Raises
    ------
    UsageError
        If there are no points, all are the same, they are not a table, or some are not finite.
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
        If the shapes do not belong together, or the covariance is not positive definite.
    """

    def __init__(self, mean: Any, covariance: Any) -> None:
        self.mean = torch.as_tensor(mean, dtype=torch.float64)
        self.covariance = torch.as_tensor(covariance, dtype=torch.float64)
        self.dimension = len(self.mean)
        if self.covariance.shape != (self.dimension, self.dimension):
            raise UsageError(
                f"a mean of {self.dimension} numbers with a covariance of shape {tuple(self.covariance.shape)}, "
                f"expected ({self.dimension}, {self.dimension})"
            )
        root, failed = torch.linalg.cholesky_ex(self.covariance)
        if bool(failed) or not torch.allclose(self.covariance, self.covariance.T):
            raise UsageError("the covariance is not symmetric and positive definite, as a Gaussian's must be")
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
    """

    def __init__(self, parts: Sequence[Marginal]) -> None:
        self.parts = tuple(parts)
        self.dimension = _one_dimension(self.parts)

    def sample(self, count: int, generator: torch.Generator) -> Tensor:
        """Draw the part of every point, then the point."""
        chosen = torch.randint(len(self.parts), (count,), generator=generator)
        drawn = torch.stack([part.sample(count, generator) for part in self.parts])
        return drawn[chosen, torch.arange(count)]


class Drawn(Marginal):
    """Whatever a function draws.

    Parameters
    ----------
    draw
        Called with a count and a generator; returns (count, dimension) float32 points.
    dimension
        D.
    """

    def __init__(self, draw: Callable[[int, torch.Generator], Tensor], dimension: int) -> None:
        self._draw, self.dimension = draw, dimension

    def sample(self, count: int, generator: torch.Generator) -> Tensor:
        """Call the function."""
        return self._draw(count, generator)


class Problem:
    """Distributions and their weights: a barycenter problem.

    Parameters
    ----------
    marginals
        N distributions (or (n, D) arrays of samples).
    weights
        N non-negative numbers that add up to one; all alike by default.
    one_space
        Whether all must have one dimension, as every cost between points of one space demands.

    Attributes
    ----------
    dimension
        The largest dimension of the marginals.

    Raises
    ------
    UsageError
        If there are no marginals, their dimensions differ, or the weights are not weights.

    References
    ----------
    Equation (3) of Fan, Taghvaei and Chen (2021), equation (5) of Kolesov et al. (2024).
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
        """Draw (N, count, D) points; marginals of a smaller dimension are filled up with zeros."""
        drawn = [marginal.sample(count, generator) for marginal in self.marginals]
        short = [self.dimension - points.shape[1] for points in drawn]
        return torch.stack([torch.nn.functional.pad(p, (0, n)) if n else p for p, n in zip(drawn, short, strict=True)])

    def moments(self, count: int = 20_000, *, seed: int = 0) -> tuple[Tensor, Tensor]:
        """Return the (N, D) means and (N, D, D) covariances in float64, exact where they are known."""
        generator = torch.Generator().manual_seed(seed)
        means, covariances = [], []
        for marginal in self.marginals:
            if isinstance(marginal, Gaussian):
                means.append(marginal.mean)
                covariances.append(marginal.covariance)
                continue
            known = marginal.points if isinstance(marginal, Samples) else marginal.sample(count, generator)
            points = known.double()
            means.append(points.mean(dim=0))
            covariances.append(torch.cov(points.T).reshape(marginal.dimension, marginal.dimension))
        return torch.stack(means), torch.stack(covariances)

    def fingerprint(self) -> str:
        """Tell this problem from others by its weights and what its marginals draw."""
        drawn = self.sample(64, torch.Generator().manual_seed(0))
        return hashlib.sha256(drawn.numpy().tobytes() + self.weights.numpy().tobytes()).hexdigest()[:16]


def check_weights(weights: Sequence[float] | Tensor | None, count: int) -> Tensor:
    """Return the weights as (count,) float32, equal ones where None are given.

    Raises
    ------
    UsageError
        If their number is not `count`, one is negative or not finite, or they do not add up to one.
    """
    if weights is None:
        return torch.full((count,), 1.0 / count)
    found = torch.as_tensor(weights, dtype=torch.float64)
    if found.shape != (count,):
        raise UsageError(f"weights of shape {tuple(found.shape)} for {count} distributions, expected ({count},)")
    if not bool(found.isfinite().all()) or bool((found < 0).any()):
        raise UsageError(f"weights {found.tolist()}: each must be a finite number, and none negative")
    if abs(float(found.sum()) - 1.0) > _SLACK:
        raise UsageError(f"weights add up to {float(found.sum()):g}, expected 1: divide them by their sum")
    return found.float()


def _one_dimension(marginals: Sequence[Marginal]) -> int:
    dimensions = [marginal.dimension for marginal in marginals]
    if len(set(dimensions)) != 1:
        raise UsageError(f"the distributions have dimensions {dimensions}, expected one for all")
    return dimensions[0]
