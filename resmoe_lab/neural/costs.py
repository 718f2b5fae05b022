"""What transport costs: ground costs between a point and its image, and what makes them weak costs."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from .problem import Marginal

#: c(x, y): points (..., D_k) and images (..., D) give (...); any differentiable function of the images will do.
Ground = Callable[[Tensor, Tensor], Tensor]


def quadratic(points: Tensor, images: Tensor) -> Tensor:
    """Return |x - y|^2 / 2."""
    return 0.5 * (points - images).square().sum(dim=-1)


def through(change: Callable[[Tensor], Tensor]) -> Ground:
    """Return the cost |u(x) - u(y)|^2 / 2 of points that are first changed by u, such as :func:`twist`."""

    def cost(points: Tensor, images: Tensor) -> Tensor:
        return quadratic(change(points), change(images))

    return cost


def latent(decode: Callable[[Tensor], Tensor], cost: Ground = quadratic) -> Ground:
    """Return the cost c(x, G(z)) of a point and a latent code: the barycenter then lies on the manifold of G.

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
    across, up = points[..., 0], points[..., 1]
    return torch.stack([cosine * across - sine * up, sine * across + cosine * up], dim=-1)


@dataclass(frozen=True)
class Plan:
    """Images of a batch, and where they come from if that is a Gaussian.

    Attributes
    ----------
    images
        (N, M, S, D): S draws for each of M points.
    mean, scale
        (N, M, D) parameters of the Gaussian conditional plans; None for other maps.
    """

    images: Tensor
    mean: Tensor | None = None
    scale: Tensor | None = None


class Regularizer(ABC):
    """What is added to the mean ground cost of a point's images: the classical cost adds nothing."""

    #: Draws for each point without which it cannot be estimated, and whether the plans must be Gaussian.
    least_draws: int = 1
    gaussian_only: bool = False

    @abstractmethod
    def __call__(self, plan: Plan, generator: torch.Generator) -> Tensor:
        """Return (N, M) costs."""


@dataclass(frozen=True)
class KL(Regularizer):
    """epsilon KL(plan || N(center, I)), in closed form for Gaussian plans.

    Parameters
    ----------
    epsilon
        Its weight.
    center
        Mean of the prior: one number for all coordinates, or one each.

    References
    ----------
    Equation (7) of Kolesov et al. (2024).
    """

    epsilon: float
    center: float | tuple[float, ...] = 0.0
    gaussian_only = True

    def __call__(self, plan: Plan, generator: torch.Generator) -> Tensor:
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
        Its weight.
    prior
        The prior.
    draws
        Points of the prior for each point.

    References
    ----------
    Equation (8) of Kolesov et al. (2024) and its unbiased estimate in section 4.3.
    """

    gamma: float
    prior: Marginal
    draws: int = 16
    least_draws = 2

    def __call__(self, plan: Plan, generator: torch.Generator) -> Tensor:
        """Estimate the distance from the draws."""
        images = plan.images
        count, points, draws, width = images.shape
        others = self.prior.sample(count * points * self.draws, generator).view(count, points, self.draws, width)
        across = _distances(images, others).mean(dim=(-1, -2))
        inside = _distances(images, images).sum(dim=(-1, -2)) / (draws * (draws - 1))
        return self.gamma * (2 * across - inside)


def _distances(first: Tensor, second: Tensor) -> Tensor:
    """Euclidean distances (..., S, T); smooth at zero, where a point meets itself."""
    squared = (first.unsqueeze(-2) - second.unsqueeze(-3)).square().sum(dim=-1)
    return (squared + 1e-12).sqrt() - math.sqrt(1e-12)
