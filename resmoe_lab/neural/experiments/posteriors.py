"""Table 1 of the NWB paper: the average of the posteriors of five subsets against the posterior of all data."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache, lru_cache
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from scipy.optimize import minimize

from ..._core.datasets import find_data
from ..metrics import Moments, bures_uvp, gaussian_barycenter, moments
from ..problem import Gaussian, Problem, Samples
from ._base import EXPERIMENTS, Case, Experiment, solver_case
from ._gaussian import POINTS

COVARIATES = ("season", "hr", "holiday", "workingday", "weathersit", "temp", "hum", "windspeed")
SPLITS, DRAWS = 5, 100_000
#: BW2-UVP in percent as printed in Table 1.
PUBLISHED = {"nwb": 0.06, "cdwb": 0.26, "cwb": 0.07, "crwb": 1.67}


class Posterior(NamedTuple):
    """Samples of a posterior, and its Laplace approximation.

    Attributes
    ----------
    draws
        (n, 8).
    mode, covariance
        Laplace's approximation.
    effective
        Effective fraction of the samples under importance weights: 1 if Laplace's approximation is exact.
    """

    draws: np.ndarray
    mode: np.ndarray
    covariance: np.ndarray
    effective: float


@cache
def bike_hires() -> tuple[np.ndarray, np.ndarray]:
    """Return (n, 8) whitened covariates and (n,) hourly hires."""
    table = pd.read_csv(find_data("bike_sharing/hour.csv"))
    covariates = table[list(COVARIATES)].to_numpy(float)
    covariates -= covariates.mean(axis=0)
    values, vectors = np.linalg.eigh(np.cov(covariates.T))
    return covariates @ vectors / np.sqrt(values), table["cnt"].to_numpy(float)


def sample_posterior(
    covariates: np.ndarray, counts: np.ndarray, *, power: float, seed: int, offset: float
) -> Posterior:
    """Draw from the posterior of a Poisson regression with a log link and N(0, 1) priors.

    Sampling importance resampling, with Laplace's approximation as the proposal.

    Parameters
    ----------
    covariates : (n, d) array
    counts : (n,) array
    power
        Power of the likelihood, for subsets by the stochastic approximation.
    seed
        Seed of the samples.
    offset
        Logarithm of the mean count, in place of an intercept.

    References
    ----------
    Minsker et al. (2014) for the power; Fan, Taghvaei and Chen (2021), section 4.3.
    """

    def negative_log_posterior(coefficients: np.ndarray) -> tuple[float, np.ndarray]:
        linear = covariates @ coefficients + offset
        rates = np.exp(linear)
        value = power * (rates - counts * linear).sum() + 0.5 * coefficients @ coefficients
        return value, power * covariates.T @ (rates - counts) + coefficients

    start = np.zeros(covariates.shape[1])
    mode = minimize(negative_log_posterior, start, jac=True, method="BFGS", options={"gtol": 1e-3}).x
    for _ in range(5):  # Newton's method refines the result of BFGS
        rates = np.exp(covariates @ mode + offset)
        curvature = power * (covariates.T * rates) @ covariates + np.eye(len(mode))
        mode = mode - np.linalg.solve(curvature, negative_log_posterior(mode)[1])
    covariance = np.linalg.inv(curvature)
    random = np.random.default_rng(seed)
    steps = random.standard_normal((DRAWS, len(mode))) @ np.linalg.cholesky(covariance).T
    gradient, minimum = negative_log_posterior(mode)[1], negative_log_posterior(mode)[0]
    values = _negative_log_posteriors(covariates, counts, mode + steps, power=power, offset=offset)
    log_weights = -(values - minimum) + 0.5 * np.einsum("nd,de,ne->n", steps, curvature, steps)
    assert np.abs(gradient).max() < 1e-3
    weights = np.exp(log_weights - log_weights.max())
    weights /= weights.sum()
    indices = random.choice(DRAWS, DRAWS, p=weights)
    return Posterior(mode + steps[indices], mode, covariance, float(1 / (weights**2).sum() / DRAWS))


def _negative_log_posteriors(
    covariates: np.ndarray, counts: np.ndarray, points: np.ndarray, *, power: float, offset: float
) -> np.ndarray:
    """Return the negative log posterior at many points, in chunks that bound the memory."""
    values = []
    for chunk in np.array_split(points, max(1, len(points) * len(covariates) // 20_000_000)):
        linear = chunk @ covariates.T + offset
        values.append(power * (np.exp(linear).sum(axis=1) - linear @ counts) + 0.5 * (chunk**2).sum(axis=1))
    return np.concatenate(values)


class Subsets(NamedTuple):
    """Posteriors of the subsets and of all data, centred and scaled as in the paper.

    Attributes
    ----------
    problem
        Centred posteriors of the subsets, scaled to unit mean variance.
    whole
        Moments of the centred posterior of all data in the same scale.
    laplace
        BW2-UVP of the exact barycenter of Laplace's Gaussians: the error of splitting the data, for every solver.
    offset
        Squared distance between the mean of the subsets' means and that of all data, in percent of the variance. No
        solver changes the mean of a barycenter, so the paper removes it.
    effective
        Smallest effective fraction of samples.
    """

    problem: Problem
    whole: Moments
    laplace: float
    offset: float
    effective: float


@lru_cache(maxsize=2)
def subset_posteriors(seed: int = 0) -> Subsets:
    """Split the data into five subsets and sample all six posteriors."""
    covariates, counts = bike_hires()
    offset = float(np.log(counts.mean()))
    order = np.random.default_rng(seed).permutation(len(counts))
    parts = [
        sample_posterior(covariates[rows], counts[rows], power=SPLITS, seed=seed + i, offset=offset)
        for i, rows in enumerate(np.array_split(order, SPLITS), start=1)
    ]
    whole = sample_posterior(covariates, counts, power=1, seed=seed, offset=offset)
    scale = float(np.sqrt(np.trace(np.cov(whole.draws.T)) / len(COVARIATES)))
    center = np.mean([part.draws.mean(axis=0) for part in parts], axis=0)
    problem = Problem([Samples((part.draws - part.draws.mean(axis=0)) / scale) for part in parts])
    mean = whole.draws.mean(axis=0)
    exact = moments(torch.as_tensor((whole.draws - mean) / scale))
    zeros = np.zeros(len(COVARIATES))
    gaussians = Problem([Gaussian(zeros, part.covariance / scale**2) for part in parts])
    exact_gaussian = torch.as_tensor(zeros), torch.as_tensor(whole.covariance / scale**2)
    return Subsets(
        problem,
        exact,
        laplace=bures_uvp(gaussian_barycenter(gaussians), exact_gaussian),
        offset=100 * float(((center - mean) ** 2).sum() / np.trace(np.cov(whole.draws.T))),
        effective=min(posterior.effective for posterior in (*parts, whole)),
    )


def _cases(quick: bool) -> Iterator[Case]:
    subsets = subset_posteriors()
    truth = Gaussian(*subsets.whole).sample(DRAWS, torch.Generator().manual_seed(14))
    facts = {"least effective share": subsets.effective}

    def measure(solver: Any) -> dict[str, float]:
        samples = solver.sample(DRAWS)  # the noise of the paper's 10,000 is half of the errors to be measured
        measured = {
            "BW2-UVP": bures_uvp(moments(samples), subsets.whole),
            "floor (noise of the draws)": bures_uvp(moments(truth), subsets.whole),
            "BW2-UVP, 10,000 draws": bures_uvp(moments(samples[:POINTS]), subsets.whole),
            "floor, 10,000 draws": bures_uvp(moments(truth[:POINTS]), subsets.whole),
            "floor (splitting, Laplace)": subsets.laplace,
            "offset of the mean": subsets.offset,
        }
        if solver.has_maps:
            points = subsets.problem.sample(POINTS, torch.Generator().manual_seed(15))
            errors = [bures_uvp(moments(images), subsets.whole) for images in solver.push(points)]
            measured["BW2-UVP of maps"] = float(np.mean(errors))
        return measured

    settings: dict[str, dict[str, Any]] = {
        "nwb": {"steps": 600, "width": 16, "batch": 400},
        "cdwb": {"steps": 5},
        "cwb": {"steps": 600},
        "crwb": {"steps": 600},
    }
    for solver in list(settings)[:1] if quick else settings:
        solver_settings = settings[solver] | ({"steps": 150} if quick else {})
        yield solver_case(
            solver,
            subsets.problem,
            solver,
            measure=measure,
            settings=solver_settings,
            facts={**facts, "published": PUBLISHED[solver]},
        )


EXPERIMENTS.register("posteriors")(
    Experiment(
        "Posteriors of a Poisson regression on five parts of the bike hires, averaged",
        "Fan, Taghvaei and Chen (2021), section 4.3, Table 1; BW2-UVP to the posterior of all data",
        _cases,
    )
)
