"""Transport costs: ground costs between points and their images, and the regularizers of weak costs."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from .problem import Marginal

#: c(x, y) of points (..., D_k) and images (..., D), (...); any function that is differentiable in the images.
GroundCost = Callable[[Tensor, Tensor], Tensor]


def quadratic(points: Tensor, images: Tensor) -> Tensor:
    """Return |x - y|^2 / 2."""
    return 0.5 * (points - images).square().sum(dim=-1)


def transformed_cost(transform: Callable[[Tensor], Tensor]) -> GroundCost:
    """Return the cost |u(x) - u(y)|^2 / 2 of a map u of points, such as :func:`twist`."""

    def cost(points: Tensor, images: Tensor) -> Tensor:
        return quadratic(transform(points), transform(images))

    return cost


def latent_cost(decode: Callable[[Tensor], Tensor], cost: GroundCost = quadratic) -> GroundCost:
    """Return the cost c(x, G(z)) of a point and a latent code, with which the barycenter is on the manifold of G.

    References
    ----------
    Kolesov et al. (2024), section 5: OT barycenters constrained to image manifolds.
    """

    def of_code(points: Tensor, codes: Tensor) -> Tensor:
        return cost(points, decode(codes))

    return of_code


def twist(points: Tensor, *, turn: float = 0.4) -> Tensor:
    """Rotate (..., 2) points by `turn` times their distance from the origin (radians); the inverse has -`turn`."""
    angle = turn * points.norm(dim=-1)
    cosine, sine = angle.cos(), angle.sin()
    x, y = points[..., 0], points[..., 1]
    return torch.stack([cosine * x - sine * y, sine * x + cosine * y], dim=-1)


@dataclass(frozen=True)
class ConditionalPlans:
    """Samples of the conditional plans of a batch, and their parameters if they are Gaussian.

    Attributes
    ----------
    images
        (N, M, S, D): S samples for each of M points.
    mean, scale
        (N, M, D) parameters of the Gaussian conditional plans; None for other maps.
    """

    images: Tensor
    mean: Tensor | None = None
    scale: Tensor | None = None


class Regularizer(ABC):
    """The term that a weak cost adds to the mean ground cost of a point's images."""

    #: Minimum of samples for each point, and whether the plans must be Gaussian.
    min_draws: int = 1
    gaussian_only: bool = False

    @abstractmethod
    def __call__(self, plan: ConditionalPlans, generator: torch.Generator) -> Tensor:
        """Return (N, M) costs."""


@dataclass(frozen=True)
class KL(Regularizer):
    """epsilon KL(plan || N(center, I)), in closed form for Gaussian plans.

    Parameters
    ----------
    epsilon
        Weight of the regularizer.
    center
        Mean of the prior: one number for all coordinates, or one for each.

    References
    ----------
    Equation (7) of Kolesov et al. (2024).
    """

    epsilon: float
    center: float | tuple[float, ...] = 0.0
    gaussian_only = True

    def __call__(self, plan: ConditionalPlans, generator: torch.Generator) -> Tensor:
        """Return the divergence of each point's plan."""
        assert plan.mean is not None
        assert plan.scale is not None
        offset = plan.mean - torch.tensor(self.center)
        return self.epsilon * 0.5 * (plan.scale**2 + offset**2 - 1 - 2 * plan.scale.log()).sum(dim=-1)


@dataclass(frozen=True)
class Energy(Regularizer):
    """gamma times the squared energy distance of a point's images to the prior, up to a constant.

    Parameters
    ----------
    gamma
        Weight of the regularizer.
    prior
        The prior.
    draws
        Number of prior samples for each point.

    References
    ----------
    Equation (8) of Kolesov et al. (2024) and its unbiased estimate in section 4.3.
    """

    gamma: float
    prior: Marginal
    draws: int = 16
    min_draws = 2

    def __call__(self, plan: ConditionalPlans, generator: torch.Generator) -> Tensor:
        """Estimate the energy distance from samples."""
        images = plan.images
        count, points, draws, width = images.shape
        prior_points = self.prior.sample(count * points * self.draws, generator).view(count, points, self.draws, width)
        between = _distances(images, prior_points).mean(dim=(-1, -2))
        within = _distances(images, images).sum(dim=(-1, -2)) / (draws * (draws - 1))
        return self.gamma * (2 * between - within)


def _distances(first: Tensor, second: Tensor) -> Tensor:
    """Return the Euclidean distances (..., S, T), smoothed at zero."""
    squared = (first.unsqueeze(-2) - second.unsqueeze(-3)).square().sum(dim=-1)
    return (squared + 1e-12).sqrt() - math.sqrt(1e-12)
