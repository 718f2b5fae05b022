"""The default solver: re-match one expert at a time against the others' mean."""

from __future__ import annotations

from torch import Tensor

from ..cost import squared_distances
from ..run import SOLVERS, Run
from .alternating import alternating


@SOLVERS.register("coordinate")
def coordinate(run: Run) -> Tensor:
    """Block coordinate descent on the joint objective, from the alternating solver's result.

    The center is an average that already holds a copy of the expert being re-matched, which is why alternating
    freezes early; the others alone do not. Every accepted match lowers the objective.
    """
    problem = run.problem
    permutations = alternating(run)
    if problem.count < 2:
        return permutations
    buffer = problem.buffer()
    for _ in range(run.max_iterations):
        changed = 0
        for k in range(problem.count):
            weight = float(problem.weights[k])
            if weight == 1.0:
                continue
            others = problem.mean(permutations).sub_(problem.expert(k, permutations[k]), alpha=weight)
            cost = squared_distances(others.div_(1 - weight), problem.expert(k), out=buffer)
            matched = run.assign(cost)
            present = float(cost.cpu().gather(1, permutations[k][:, None]).double().sum())
            if matched.cost < present * (1 - 1e-9):
                changed += int((matched.permutation != permutations[k]).sum())
                permutations[k] = matched.permutation
        run.record("coordinate", permutations, changed)
        if changed == 0:
            break
    return permutations
