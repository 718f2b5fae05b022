"""Example problems of distributions in the plane."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from .problem import Gaussian, Mixture, Problem, Sampler


def _clouds(*centers: tuple[float, float], deviation: float = 0.35) -> Mixture:
    return Mixture([Gaussian(center, deviation**2 * torch.eye(2)) for center in centers])


def _ring(count: int, generator: torch.Generator) -> Tensor:
    angle = 2 * math.pi * torch.rand(count, generator=generator)
    radius = (torch.rand(count, generator=generator) * (2.0**2 - 1.4**2) + 1.4**2).sqrt()
    return torch.stack([radius * angle.cos(), radius * angle.sin()], dim=1)


def _square(count: int, generator: torch.Generator) -> Tensor:
    return 3 * torch.rand(count, 2, generator=generator) - 1.5


def _three_gaussians() -> Problem:
    covariances = ([[0.5, 0.0], [0.0, 2.0]], [[2.0, 1.0], [1.0, 1.0]], [[2.0, -1.0], [-1.0, 1.0]])
    return Problem([Gaussian([0.0, 0.0], covariance) for covariance in covariances])


#: Problems by name: the Gaussians of NWB's supplement B, a ring and a square as in its Figure 4, and mixtures of
#: four as in its Figure 14, at a smaller scale.
EXAMPLES: dict[str, Callable[[], Problem]] = {
    "three Gaussians": _three_gaussians,
    "ring and square": lambda: Problem([Sampler(_ring, 2), Sampler(_square, 2)]),
    "four modes and four": lambda: Problem(
        [_clouds((1.6, 1.6), (1.6, -1.6), (-1.6, -1.6), (-1.6, 1.6)), _clouds((0, 1.6), (1.6, 0), (0, -1.6), (-1.6, 0))]
    ),
}


def first_and_rest(first: float, count: int) -> Sequence[float]:
    """Return weights: `first` for the first distribution, and equal ones for all others."""
    return [1.0] if count == 1 else [first, *[(1 - first) / (count - 1)] * (count - 1)]
