"""The Wasserstein barycenter of a layer's experts."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import closing

from torch import Tensor

from .._core.errors import UsageError
from .._core.progress import Progress, silent
from .certificate import certify as make_certificate
from .gram_backend import Gram
from .matching_backends import Direct, Geometry
from .problem import Problem
from .result import Barycenter
from .run import SOLVERS, Options, Run
from .search_config import SearchConfig, are_near_duplicates, plan_search, scratch_folder


def barycenter(
    stack: Tensor | Sequence[Tensor],
    *,
    solver: str = "coordinate",
    start: int | str = 0,
    weights: Tensor | Sequence[float] | None = None,
    seed: int = 0,
    mode: str = "auto",
    memory: int | None = None,
    max_iterations: int = 100,
    tolerance: float = 2.5e-3,
    restarts: int = 0,
    random_order: bool = False,
    certify: bool = True,
    sample_pairs: int | None = None,
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
    mode
        ``"direct"`` computes products as they are needed, ``"gram"`` keeps each for later rounds, ``"auto"`` chooses
        by :func:`~resmoe_lab.transport.plan_search`.
    memory
        Bytes that may be used beside the experts, half of the machine's if left out; kept products that need more go
        to files.
    max_iterations
        Rounds at most, of each kind.
    tolerance
        ``coordinate`` stops when a round lowers the objective by less than this share. With 0 it starts from the result
        of ``alternating``, which its own can then only be better than, and goes on to the very end.
    restarts
        ``coordinate`` also begins at so many other experts, drawn by `seed`, and keeps the best.
    random_order
        ``coordinate`` takes the experts in an order drawn by `seed`, anew each round.
    certify
        Also compute the lower bound and the certified gap.
    sample_pairs
        Look at so many pairs of experts only, drawn by `seed`: an estimate instead of a bound.
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
    if sample_pairs is not None and sample_pairs < 1:
        raise UsageError(f"sample_pairs is {sample_pairs}, expected at least 1, or None for all")
    options = Options(start, seed, max_iterations, tolerance, restarts, random_order, certify and sample_pairs is None)
    problem = Problem(stack, weights)
    chosen = plan_search(
        problem.count,
        problem.neurons,
        problem.width,
        mode=mode,
        solver=solver,
        certify=certify,
        near_duplicates=mode == "auto" and are_near_duplicates(problem),
        memory=memory,
    )
    with closing(_geometry(problem, chosen)) as geometry:
        run = Run(problem, geometry, options, progress)
        SOLVERS[solver](run)
        center, value = run.result()
        certificate = make_certificate(run, value, sample_pairs=sample_pairs) if certify else None
    return Barycenter(
        center=center,
        permutations=geometry.permutations,
        objective=value,
        history=tuple(run.steps),
        iterations=len(run.steps),
        seconds=time.perf_counter() - began,
        solver=solver,
        certificate=certificate,
        plan=chosen,
    )


def _geometry(problem: Problem, chosen: SearchConfig) -> Geometry:
    if chosen.mode == "direct":
        return Direct(problem, lanes=chosen.lanes)
    return Gram(problem, scratch_folder() if chosen.scratch else None)
