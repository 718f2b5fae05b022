"""Aligning experts with one another by exact weight matching."""

from __future__ import annotations

from contextlib import closing

import torch

from .._core.machine import available_bytes
from .._core.progress import Progress, Tick, silent
from ..experts import ExpertStack
from ..transport import assign, plan_search
from ..transport.barycenter import matching_backend
from ..transport.cost import distances_between
from ..transport.matching_backends import DirectBackend, MatchingBackend
from ..transport.problem import Problem
from ..transport.rows import normalized
from ..transport.search_config import are_near_duplicates

#: Rounds of MergeMany at most; it stops by itself long before.
_ROUNDS = 100


def match_rows(reference: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    """(n,) int64 order of `rows` (n, D) that brings them nearest to `reference` (n, D), on the CPU.

    The squared norms of the rows are the same in any order, so this is the matching of largest inner product; and what
    all rows of a matrix share is the same for any of them.
    """
    return assign(distances_between(*normalized([reference, rows]))).permutation


def match_experts(
    stack: ExpertStack, reference: torch.Tensor, *, skip: int | None = None, progress: Progress = silent
) -> torch.Tensor:
    """Match the neurons of every expert but `skip` with the rows of a (p_I, D) reference: (N, p_I) int64."""
    orders = torch.arange(stack.intermediate_size).repeat(stack.num_experts, 1)
    for k in range(stack.num_experts):
        progress(Tick("weight matching", k, stack.num_experts))
        if k != skip:
            orders[k] = match_rows(reference, stack.weights[k])
    return orders


def align_with(stack: ExpertStack, expert: int, *, progress: Progress = silent) -> torch.Tensor:
    """Match the neurons of every expert with those of one of them.

    Returns
    -------
    torch.Tensor
        (N, p_I) int64, row `expert` the identity.
    """
    return match_experts(stack, stack.weights[expert], skip=expert, progress=progress)


def merge_many(stack: ExpertStack, *, seed: int = 0, progress: Progress = silent) -> torch.Tensor:
    """Match every expert with the mean of the others, in random order, until no match gets better.

    Parameters
    ----------
    stack
        The experts.
    seed
        Draws the order of each round.
    progress
        Called before every match; raising from it cancels.

    Returns
    -------
    torch.Tensor
        (N, p_I) int64.

    References
    ----------
    Git Re-Basin, arXiv 2209.04836, algorithm 3.
    """
    count, size = stack.num_experts, stack.intermediate_size
    problem = Problem(stack.weights)
    kept_bytes = 4 * count * size**2
    if kept_bytes < available_bytes() // 4:
        chosen: MatchingBackend = DirectBackend(problem, keep_products=True)
    else:
        near = are_near_duplicates(problem)
        chosen = matching_backend(problem, plan_search(count, size, problem.width, certify=False, near_duplicates=near))
    generator = torch.Generator().manual_seed(seed)
    potentials: list[torch.Tensor | None] = [None] * count
    with closing(chosen) as backend:
        backend.set_permutations(problem.identity())
        for _ in range(_ROUNDS if count > 1 else 0):
            improved = False
            for done, k in enumerate(torch.randperm(count, generator=generator).tolist()):
                progress(Tick("weight matching", done, count))
                [match] = backend.match_to_mean([(k, potentials[k])], exclude_self=True)
                potentials[k] = match.potential
                if not torch.equal(match.permutation, backend.permutations[k]):
                    backend.set_permutation(k, match.permutation)
                    improved = True
            if not improved:
                break
        return backend.permutations
