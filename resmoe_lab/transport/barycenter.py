"""The Wasserstein barycenter of a layer's experts."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import closing

from torch import Tensor

from .._core.errors import UsageError
from .._core.progress import Progress, silent
from .certificate import certify as make_certificate
from .gram_backend import GramBackend
from .matching_backends import DirectBackend, MatchingBackend
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
    """Find the center of the experts: the free-support Wasserstein barycenter of the experts' neurons.

    Parameters
    ----------
    stack
        (N, p_I, D) float tensor, or N tensors (p_I, D).
    solver
        ``"coordinate"`` (the best objective), ``"alternating"`` (the paper's), or ``"pot"`` (the published call).
    start
        Initial center: an expert's index, ``"medoid"`` or ``"average"``.
    weights
        (N,) importance of the experts; equal if left out.
    seed
        Seed of all random numbers.
    mode
        ``"direct"`` computes inner products when they are needed, ``"gram"`` computes each once and caches it,
        ``"auto"`` selects one by :func:`~resmoe_lab.transport.plan_search`.
    memory
        Bytes that may be used besides the experts (default: half of the machine's); a larger cache of products goes
        to memory-mapped files.
    max_iterations
        Maximum number of rounds, of each kind.
    tolerance
        ``coordinate`` stops when a round lowers the objective by less than this fraction. With 0 it starts from the
        result of ``alternating``, so that it is never worse, and runs until no permutation changes.
    restarts
        Number of further starts of ``coordinate`` at other experts, drawn by `seed`; the best result is returned.
    random_order
        Whether ``coordinate`` visits the experts in a new random order each round, drawn by `seed`.
    certify
        Whether to compute the lower bound and the certified gap.
    sample_pairs
        Number of pairs of experts to match for the certificate, drawn by `seed`: an estimate instead of a bound.
    progress
        Called after every assignment; it may raise Cancelled to stop the search.

    Returns
    -------
    Barycenter
        The center, the permutations, the objective and its certificate.

    Raises
    ------
    WeightError
        If there is no expert, shapes differ, or a weight is NaN or infinite.
    UsageError
        If an argument is out of range.

    References
    ----------
    The paper's equation (4), Proposition 4.1 and Algorithm 1, step 1.

    Examples
    --------
    >>> import torch
    >>> experts = torch.tensor([[[0.0, 1.0], [5.0, 0.0]], [[5.0, 2.0], [0.0, 1.0]]])
    >>> result = barycenter(experts)
    >>> result.permutations
    tensor([[0, 1],
            [1, 0]])
    >>> result.center
    tensor([[0., 1.],
            [5., 1.]])
    >>> result.objective
    1.0
    """
    started = time.perf_counter()
    if sample_pairs is not None and sample_pairs < 1:
        raise UsageError(f"sample_pairs is {sample_pairs}, expected at least 1, or None for all")
    options = Options(start, seed, max_iterations, tolerance, restarts, random_order, certify and sample_pairs is None)
    problem = Problem(stack, weights)
    config = plan_search(
        problem.count,
        problem.neurons,
        problem.width,
        mode=mode,
        solver=solver,
        certify=certify,
        near_duplicates=mode == "auto" and are_near_duplicates(problem),
        memory=memory,
    )
    with closing(matching_backend(problem, config)) as backend:
        run = Run(problem, backend, options, progress)
        SOLVERS[solver](run)
        mean, objective = run.result()
        certificate = make_certificate(run, objective, sample_pairs=sample_pairs) if certify else None
    return Barycenter(
        center=problem.center(backend.permutations, mean),
        permutations=backend.permutations,
        objective=problem.in_their_unit(objective),
        history=tuple(run.steps),
        iterations=len(run.steps),
        seconds=time.perf_counter() - started,
        solver=solver,
        certificate=certificate,
        plan=config,
    )


def matching_backend(problem: Problem, config: SearchConfig) -> MatchingBackend:
    """Return the backend that a search is configured for."""
    if config.mode == "direct":
        return DirectBackend(problem, threads=config.threads)
    return GramBackend(problem, scratch_folder() if config.scratch else None, threads=config.threads)
