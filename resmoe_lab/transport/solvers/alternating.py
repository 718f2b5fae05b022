"""The paper's solver: assign every expert to the center, average, and repeat."""

from __future__ import annotations

import torch
from torch import Tensor

from ..cost import squared_distances
from ..run import SOLVERS, Run


@SOLVERS.register("alternating")
def alternating(run: Run) -> Tensor:
    """Alternate assignments and averages until no assignment changes (the paper's Algorithm 1, step 1).

    The center begins as one expert, so the first round matches every expert with that one.
    """
    problem = run.problem
    permutations = problem.identity()
    center = run.start_center()
    buffer = problem.buffer()
    for _ in range(run.max_iterations):
        before = permutations.clone()
        for k in range(problem.count):
            permutations[k] = run.assign(squared_distances(center, problem.expert(k), out=buffer)).permutation
        center = problem.mean(permutations)
        changed = int((permutations != before).sum())
        run.record("alternating", permutations, changed)
        if changed == 0 or torch.equal(permutations, before):
            break
    return permutations
