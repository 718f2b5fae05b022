"""The default solver: re-match one expert at a time with the mean of the others."""

from __future__ import annotations

import torch
from torch import Tensor

from ..certificate import is_optimal
from ..run import SOLVERS, Run
from .alternating import alternate, first_round

#: With fewer experts than this, the mean of the previous experts is always the first one.
MIN_EXPERTS = 3


@SOLVERS.register("coordinate")
def coordinate(run: Run) -> None:
    """Block coordinate descent on the joint objective.

    The center contains the expert that is being re-match, which is why the alternating solver stops early; the mean
    of the others does not. Every accepted match lowers the objective. Restarts begin at other experts, and the best
    result is returned.
    """
    generator = torch.Generator().manual_seed(run.options.seed)
    _descend_from(run, run.options.start, generator)
    best = (run.steps[-1].objective, run.backend.permutations.clone())
    others = torch.randperm(run.problem.count, generator=generator).tolist()
    for start in [k for k in others if k != run.options.start][: run.options.restarts]:
        _descend_from(run, start, generator)
        if run.steps[-1].objective < best[0]:
            best = (run.steps[-1].objective, run.backend.permutations.clone())
    run.backend.set_permutations(best[1])


def _descend_from(run: Run, start: int | str, generator: torch.Generator) -> None:
    potentials: list[Tensor | None] = [None] * run.problem.count
    if initialize(run, start, potentials) or run.problem.count < 2:
        return
    for _ in range(run.options.max_iterations):
        order = list(range(run.problem.count))
        if run.options.random_order:
            order = torch.randperm(run.problem.count, generator=generator).tolist()
        before = run.steps[-1].objective
        if descend(run, order, potentials) == 0 or run.steps[-1].objective > before * (1 - run.options.tolerance):
            break


def initialize(run: Run, start: int | str, potentials: list[Tensor | None]) -> bool:
    """Align all experts for the first time; return True if the result is known to be optimal.

    The potentials of matches with the mean are left in `potentials`.

    Copies are match with the first expert. With a tolerance of 0, the alternating solver runs first, so that the
    result is never worse than its own. Unrelated experts are match one after another with the mean of the previous
    ones, which gives a far lower objective for the same work.
    """
    if run.options.tolerance == 0:
        return alternate(run, start)
    first = run.start_expert(start)
    too_few = run.problem.count < MIN_EXPERTS
    if (
        first is None
        or too_few
        or not run.problem.weights[first] > 0
        or run.pair(first, int(first == 0)).skipped_assignment
    ):
        return first_round(run, start) and is_optimal(run)
    backend = run.backend
    backend.set_permutations(run.problem.identity(), members=[first])
    for k in range(run.problem.count):
        if k != first:
            (match,) = run.match_to_mean([(k, None)], exclude_self=True)
            backend.set_permutation(k, match.permutation)
            potentials[k] = match.potential
    run.record("coordinate", run.result()[1], run.problem.count * run.problem.neurons)
    return False


def descend(run: Run, order: list[int], potentials: list[Tensor | None]) -> int:
    """Re-match every expert once, in `order`; return how many matches changed.

    Re-matching expert k changes the objective by ``w_k (1 - w_k)`` times the change of its squared distance to the
    mean of the others, which is what the assignment minimises.
    """
    backend, weights = run.backend, run.problem.weights.tolist()
    backend.set_permutations(backend.permutations)
    objective, changed = run.objective, 0
    for k in order:
        if not 0 < weights[k] < 1:
            continue
        (match,) = run.match_to_mean([(k, potentials[k])], exclude_self=True)
        potentials[k] = match.potential
        changed_neurons = int((match.permutation != backend.permutations[k]).sum())
        if changed_neurons:
            objective -= weights[k] * (1 - weights[k]) * match.gain
            changed += changed_neurons
            backend.set_permutation(k, match.permutation)
    run.record("coordinate", objective, changed)
    return changed
