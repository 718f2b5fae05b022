"""Error metrics of solvers where the barycenter is known: Gaussians, and others whose moments and maps are theirs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from ..metrics import bures_uvp, gaussian_barycenter, gaussian_maps, l2_uvp, moments, random_covariance
from ..problem import Gaussian, Marginal, Problem
from ..solvers import Solver

#: Number of points for error metrics, as in the NWB paper.
POINTS = 10_000


def centred_gaussians(
    dimension: int, spectrum: tuple[float, float], *, weights: Sequence[float], seed: int = 0
) -> Problem:
    """Return centred Gaussians whose covariances have one spectrum in random bases."""
    low, high = spectrum
    covariances = [random_covariance(dimension, low=low, high=high, seed=seed + i) for i in range(len(weights))]
    return Problem([Gaussian(np.zeros(dimension), covariance) for covariance in covariances], weights)


def gaussian_errors(problem: Problem, *, count: int = POINTS) -> Callable[[Solver[Any]], dict[str, float]]:
    """Return the metrics of a solver on Gaussians, see :func:`known_errors`."""
    return known_errors(problem, Gaussian(*gaussian_barycenter(problem)), count=count)


def known_errors(
    problem: Problem, barycenter: Marginal, *, count: int = POINTS
) -> Callable[[Solver[Any]], dict[str, float]]:
    """Return the metrics of a solver whose maps are those between Gaussians: BW2-UVP, and both errors of its maps.

    The errors of maps are weighted means over the marginals. ``floor`` is the BW2-UVP of as many samples of the true
    barycenter, below which no sampler can be expected. All metrics use `count` points.
    """
    assert barycenter.known_moments is not None
    exact = barycenter.known_moments
    affine = gaussian_maps(problem, exact)
    variance = float(exact[1].trace())
    weights = problem.weights.tolist()

    def measure(solver: Solver[Any]) -> dict[str, float]:
        samples = solver.sample(count)
        truth = barycenter.sample(len(samples), torch.Generator().manual_seed(11))
        metrics = {"BW2-UVP": bures_uvp(moments(samples), exact), "floor": bures_uvp(moments(truth), exact)}
        if not solver.has_maps:
            return metrics
        points = problem.sample(count, torch.Generator().manual_seed(12))
        pushed = solver.push(points)
        mapped = [
            l2_uvp(images, source.double() @ matrix + offset, variance)
            for images, source, (matrix, offset) in zip(pushed, points, affine, strict=True)
        ]
        bures = [bures_uvp(moments(images), exact) for images in pushed]
        return {
            **metrics,
            "L2-UVP of maps": sum(weight * error for weight, error in zip(weights, mapped, strict=True)),
            "BW2-UVP of maps": sum(weight * error for weight, error in zip(weights, bures, strict=True)),
        }

    return measure
