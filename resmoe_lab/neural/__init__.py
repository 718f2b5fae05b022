"""Continuous barycenters: distributions that can only be sampled are averaged by networks."""

from .metrics import (
    bures_uvp,
    convolutional_barycenter,
    gaussian_barycenter,
    gaussian_kl,
    gaussian_maps,
    l2_uvp,
    moments,
    random_covariance,
    sliced_w2,
)
from .problem import Drawn, Gaussian, Marginal, Mixture, Problem, Samples
from .solvers import SOLVERS, Settings, Solver
from .training import DivergenceError, Training, solve, train

__all__ = [
    "SOLVERS",
    "DivergenceError",
    "Drawn",
    "Gaussian",
    "Marginal",
    "Mixture",
    "Problem",
    "Samples",
    "Settings",
    "Solver",
    "Training",
    "bures_uvp",
    "convolutional_barycenter",
    "gaussian_barycenter",
    "gaussian_kl",
    "gaussian_maps",
    "l2_uvp",
    "moments",
    "random_covariance",
    "sliced_w2",
    "solve",
    "train",
]
