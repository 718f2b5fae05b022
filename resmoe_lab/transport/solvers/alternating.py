"""The paper's solver: assign every expert to the center, average, and repeat."""

from __future__ import annotations

import torch
from torch import Tensor

from ..certificate import is_optimal
from ..run import SOLVERS, Run


@SOLVERS.register("alternating")
def alternating(run: Run) -> None:
    """Alternate assignments and averages until no assignment changes (the paper's Algorithm 1, step 1)."""
    alternate(run, run.options.start)


def alternate(run: Run, start: int | str) -> bool:
    """Run the solver from `start`; return True if the result is known to be optimal.

    The initial center is one expert, so the first round matches every expert with that one. If all of them are copies
    of it, the distances between the center's rows prove that no later round can change a match.
    """
    copies = first_round(run, start)
    if copies and is_optimal(run):
        return True
    backend, problem = run.backend, run.problem
    potentials: list[Tensor | None] = [None] * problem.count
    for _ in range(1, run.options.max_iterations):
        previous = backend.permutations.clone()
        backend.set_permutations(previous)
        matches = run.match_to_mean(list(enumerate(potentials)), exclude_self=False)
        potentials = [match.potential for match in matches]
        permutations = torch.stack([match.permutation for match in matches])
        changed = int((permutations != previous).sum())
        if changed:
            backend.set_permutations(permutations)
        run.record("alternating", run.result()[1] if changed else run.objective, changed)
        if not changed:
            break
    return False


def first_round(run: Run, start: int | str) -> bool:
    """Match every expert with the initial center; return True if all of them are copies of it."""
    backend, problem = run.backend, run.problem
    backend.set_permutations(problem.identity())
    permutations, copies = problem.identity(), True
    expert = run.start_expert(start)
    if expert is None:
        matches = run.match_to_mean([(k, None) for k in range(problem.count)], exclude_self=False)
        permutations, copies = torch.stack([match.permutation for match in matches]), False
    else:
        others = [k for k in range(problem.count) if k != expert]
        run.match_pairs([(min(expert, k), max(expert, k)) for k in others])
        for k in others:
            match = run.pair(expert, k)
            permutations[k], copies = match.permutation, copies and match.skipped_assignment
    changed = int((permutations != backend.permutations).sum())
    backend.set_permutations(permutations)
    run.record("alternating", run.result()[1], changed)
    return copies
