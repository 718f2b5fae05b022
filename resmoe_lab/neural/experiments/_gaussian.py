"""What is measured where the barycenter of Gaussians is known."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from ..metrics import bures_uvp, gaussian_barycenter, gaussian_maps, l2_uvp, moments, random_covariance
from ..problem import Gaussian, Problem
from ..solvers import Solver

#: Points that errors are measured with, as in the NWB paper.
POINTS = 10_000


def centred_gaussians(
    dimension: int, spectrum: tuple[float, float], *, weights: Sequence[float], seed: int = 0
) -> Problem:
    """Return Gaussians at the origin whose covariances have one spectrum in random bases."""
    low, high = spectrum
    covariances = [random_covariance(dimension, low=low, high=high, seed=seed + i) for i in range(len(weights))]
    return Problem([Gaussian(np.zeros(dimension), covariance) for covariance in covariances], weights)


def gaussian_errors(problem: Problem, *, count: int = POINTS) -> Callable[[Solver[Any]], dict[str, float]]:
    """Return the measure of a solver on Gaussians: BW2-UVP of what it draws, and both errors of its maps.

    The maps' figures are means over the marginals by their weights. ``floor`` is the BW2-UVP of as many points drawn
    from the true barycenter: nothing that draws points can be expected under it. All take `count` points.
    """
    exact = gaussian_barycenter(problem)
    affine = gaussian_maps(problem, exact)
    variance = float(exact[1].trace())
    shares = problem.weights.tolist()

    def measure(solver: Solver[Any]) -> dict[str, float]:
        made = solver.sample(count)
        truth = Gaussian(*exact).sample(len(made), torch.Generator().manual_seed(11))
        found = {"BW2-UVP": bures_uvp(moments(made), exact), "floor": bures_uvp(moments(truth), exact)}
        if not solver.has_maps:
            return found
        points = problem.sample(count, torch.Generator().manual_seed(12))
        pushed = solver.push(points)
        mapped = [
            l2_uvp(images, own.double() @ matrix + offset, variance)
            for images, own, (matrix, offset) in zip(pushed, points, affine, strict=True)
        ]
        bures = [bures_uvp(moments(images), exact) for images in pushed]
        return {
            **found,
            "L2-UVP of maps": sum(share * error for share, error in zip(shares, mapped, strict=True)),
            "BW2-UVP of maps": sum(share * error for share, error in zip(shares, bures, strict=True)),
        }

    return measure
