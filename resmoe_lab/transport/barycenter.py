"""The Wasserstein barycenter of a layer's experts."""

from __future__ import annotations

import time
from collections.abc import Sequence

from torch import Tensor

from .._core.errors import UsageError
from .._core.progress import Progress, silent
from .certificate import certify as make_certificate
from .cost import objective
from .problem import Problem
from .result import Barycenter
from .run import SOLVERS, Run


def barycenter(
    stack: Tensor | Sequence[Tensor],
    *,
    solver: str = "coordinate",
    start: int | str = 0,
    weights: Tensor | Sequence[float] | None = None,
    seed: int = 0,
    max_iterations: int = 100,
    certify: bool = True,
    progress: Progress = silent,
) -> Barycenter:
    """Find the center expert: the free-support Wasserstein barycenter of the experts' neurons.

    Parameters
    ----------
    stack
        (N, p_I, D) float tensor, or N tensors (p_I, D).
    solver
        ``"coordinate"`` (the best objective), ``"alternating"`` (the paper's), or ``"pot"`` (the published call).
    start
        Where the center begins: an expert's index, ``"medoid"`` or ``"average"``.
    weights
        (N,) importance of the experts; equal if left out.
    seed
        For everything random.
    max_iterations
        Rounds at most.
    certify
        Also compute the lower bound and the certified gap.
    progress
        Ticks after every assignment; raise Cancelled there to stop.

    Returns
    -------
    Barycenter

    Raises
    ------
    WeightError
        If the weights of the experts cannot be used (NaN, infinity, no expert, unequal shapes).
    UsageError
        If an argument is outside what is allowed.

    References
    ----------
    The paper's equation (4), Proposition 4.1 and Algorithm 1, step 1.
    """
    began = time.perf_counter()
    if max_iterations < 1:
        raise UsageError(f"max_iterations is {max_iterations}, expected at least 1")
    problem = Problem(stack, weights)
    run = Run(problem, start=start, seed=seed, max_iterations=max_iterations, progress=progress)
    permutations = SOLVERS[solver](run)
    center = problem.mean(permutations)
    value = objective(problem.experts, permutations, center, weights=problem.weights)
    certificate = make_certificate(problem, permutations, value, progress=progress) if certify else None
    return Barycenter(
        center=center,
        permutations=permutations,
        objective=value,
        history=tuple(run.steps),
        iterations=len(run.steps),
        seconds=time.perf_counter() - began,
        solver=solver,
        certificate=certificate,
    )
