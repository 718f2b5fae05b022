"""Aligning experts with one another by exact weight matching."""

from __future__ import annotations

import torch

from .._core.progress import Progress, Tick, silent
from ..experts import ExpertStack
from ..transport import assign
from ..transport.cost import distances_between
from ..transport.rows import normalized

#: Rounds of MergeMany at most; it stops by itself long before.
_ROUNDS = 100
#: A change of the objective by less than this share is rounding.
_SETTLED = 1e-7


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
    generator = torch.Generator().manual_seed(seed)
    orders = torch.arange(stack.intermediate_size).repeat(stack.num_experts, 1)
    total = stack.weights.double().sum(dim=0)
    for _ in range(_ROUNDS if stack.num_experts > 1 else 0):
        improved = False
        for done, k in enumerate(torch.randperm(stack.num_experts, generator=generator).tolist()):
            progress(Tick("weight matching", done, stack.num_experts))
            weights = stack.weights[k].double()
            before = weights[orders[k].to(weights.device)]
            others = total - before
            order = match_rows(others / (stack.num_experts - 1), weights)
            after = weights[order.to(weights.device)]
            gain = float(((after - before) * others).sum())
            if gain > _SETTLED * float(before.norm() * others.norm()):
                orders[k], total, improved = order, others + after, True
        if not improved:
            break
    return orders
