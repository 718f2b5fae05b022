"""Gaussians whose barycenter is known."""

from __future__ import annotations

import numpy as np
import pytest

from resmoe_lab.neural import Gaussian, Problem, random_covariance


@pytest.fixture
def gaussians() -> Problem:
    """Three centred Gaussians in the plane, unequal weights."""
    covariances = [random_covariance(2, low=0.5, high=2, seed=seed) for seed in range(3)]
    return Problem([Gaussian(np.zeros(2), covariance) for covariance in covariances], [0.25, 0.25, 0.5])
