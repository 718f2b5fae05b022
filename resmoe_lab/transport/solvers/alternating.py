"""The paper's solver: assign every expert to the center, average, and repeat."""

from __future__ import annotations

import torch
from torch import Tensor

from ..certificate import settled
from ..run import SOLVERS, Run


@SOLVERS.register("alternating")
def alternating(run: Run) -> None:
    """Alternate assignments and averages until no assignment changes (the paper's Algorithm 1, step 1)."""
    alternate(run, run.options.start)


def alternate(run: Run, start: int | str) -> bool:
    """Run the solver from `start`; return True where the result is known to be the best there is.

    The center begins as one expert, so the first round matches every expert with that one. Where all of them turn out
    to be copies, a look at the distances between the center's own rows shows that nothing can change any more.
    """
    easy = first_round(run, start)
    if easy and settled(run):
        return True
    geometry, problem = run.geometry, run.problem
    potentials: list[Tensor | None] = [None] * problem.count
    for _ in range(1, run.options.max_iterations):
        before = geometry.permutations.clone()
        geometry.place(before)
        matched = run.to_mean(list(enumerate(potentials)), others=False)
        potentials = [match.potential for match in matched]
        found = torch.stack([match.permutation for match in matched])
        changed = int((found != before).sum())
        if changed:
            geometry.place(found)
        run.record("alternating", run.result()[1] if changed else run.steps[-1].objective, changed)
        if not changed:
            break
    return False


def first_round(run: Run, start: int | str) -> bool:
    """Match every expert with the first center; return True where all of them are its copies."""
    geometry, problem = run.geometry, run.problem
    geometry.place(problem.identity())
    permutations, easy = problem.identity(), True
    expert = run.first_center(start)
    if expert is None:
        matched = run.to_mean([(k, None) for k in range(problem.count)], others=False)
        permutations, easy = torch.stack([match.permutation for match in matched]), False
    else:
        others = [k for k in range(problem.count) if k != expert]
        run.match_pairs([(min(expert, k), max(expert, k)) for k in others])
        for k in others:
            found = run.pair(expert, k)
            permutations[k], easy = found.permutation, easy and found.easy
    changed = int((permutations != geometry.permutations).sum())
    geometry.place(permutations)
    run.record("alternating", run.result()[1], changed)
    return easy
