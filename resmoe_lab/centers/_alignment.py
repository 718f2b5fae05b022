"""Aligning experts with one another by exact weight matching."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing

import torch

from .._core.machine import available_bytes
from .._core.progress import Progress, Tick, silent
from ..experts import ExpertStack
from ..transport import assign, plan_search
from ..transport.barycenter import matching_backend
from ..transport.cost import distances_between
from ..transport.matching_backends import MatchingBackend
from ..transport.problem import Problem
from ..transport.repeated_matching import RepeatedMatching
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
    problem = Problem(stack.weights)
    if stack.num_experts < 2:
        return problem.identity()
    if RepeatedMatching.needed_bytes(problem.count, problem.neurons) < available_bytes() // 4:
        matching = RepeatedMatching(problem)
        _until_none_improves(matching.match, problem.count, seed=seed, progress=progress)
        return matching.permutations
    near = are_near_duplicates(problem)
    search = plan_search(problem.count, problem.neurons, problem.width, certify=False, near_duplicates=near)
    with closing(matching_backend(problem, search)) as backend:
        _until_none_improves(_BackendMatching(backend).match, problem.count, seed=seed, progress=progress)
        return backend.permutations


class _BackendMatching:
    """Matches single experts with the mean of the others by a backend of the search, from their last potentials."""

    def __init__(self, backend: MatchingBackend) -> None:
        self._backend = backend
        self._potentials: dict[int, torch.Tensor] = {}

    def match(self, k: int) -> bool:
        """Match expert k, and return whether that is better than its permutation."""
        [best] = self._backend.match_to_mean([(k, self._potentials.get(k))], exclude_self=True)
        self._potentials[k] = best.potential
        if torch.equal(best.permutation, self._backend.permutations[k]):
            return False
        self._backend.set_permutation(k, best.permutation)
        return True


def _until_none_improves(match: Callable[[int], bool], count: int, *, seed: int, progress: Progress) -> None:
    """Match the experts in random order, round by round, until a round improves none."""
    generator = torch.Generator().manual_seed(seed)
    for _ in range(_ROUNDS):
        improved = False
        for done, k in enumerate(torch.randperm(count, generator=generator).tolist()):
            progress(Tick("weight matching", done, count))
            improved |= match(k)
        if not improved:
            break
