"""Continuous Wasserstein barycenters: neural networks average distributions that are known by samples."""

from .._core.deprecation import deprecated_names
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
from .multi_marginal import multi_marginal_plan
from .problem import Gaussian, Marginal, Mixture, Problem, Sampler, Samples
from .sample_metrics import Estimate, kernel_mmd, precision_recall
from .scatter import Ball, LocationScatter, ring_of_modes, scatter_barycenter
from .solvers import SOLVERS, Settings, Solver
from .training import DivergenceError, Training, solve, train

__all__ = [
    "SOLVERS",
    "Ball",
    "DivergenceError",
    "Estimate",
    "Gaussian",
    "LocationScatter",
    "Marginal",
    "Mixture",
    "Problem",
    "Sampler",
    "Samples",
    "Settings",
    "Solver",
    "Training",
    "bures_uvp",
    "convolutional_barycenter",
    "gaussian_barycenter",
    "gaussian_kl",
    "gaussian_maps",
    "kernel_mmd",
    "l2_uvp",
    "moments",
    "multi_marginal_plan",
    "precision_recall",
    "random_covariance",
    "ring_of_modes",
    "scatter_barycenter",
    "sliced_w2",
    "solve",
    "train",
]

__getattr__ = deprecated_names(__name__, {"Drawn": "Sampler"})
