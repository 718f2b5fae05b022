"""The default solver: re-match one expert at a time against the others' mean."""

from __future__ import annotations

import torch
from torch import Tensor

from ..certificate import settled
from ..run import SOLVERS, Run
from .alternating import alternate, first_round

#: With fewer experts than this, the mean of those before is the first one.
FEW = 3


@SOLVERS.register("coordinate")
def coordinate(run: Run) -> None:
    """Block coordinate descent on the joint objective.

    The center is an average that already holds a copy of the expert being re-matched, which is why alternating
    freezes early; the mean of the others does not. Every accepted match lowers the objective. Restarts begin at other
    experts, and the best result is kept.
    """
    generator = torch.Generator().manual_seed(run.options.seed)
    _descend_from(run, run.options.start, generator)
    best = (run.steps[-1].objective, run.geometry.permutations.clone())
    others = torch.randperm(run.problem.count, generator=generator).tolist()
    for start in [k for k in others if k != run.options.start][: run.options.restarts]:
        _descend_from(run, start, generator)
        if run.steps[-1].objective < best[0]:
            best = (run.steps[-1].objective, run.geometry.permutations.clone())
    run.geometry.place(best[1])


def _descend_from(run: Run, start: int | str, generator: torch.Generator) -> None:
    if begin(run, start) or run.problem.count < 2:
        return
    potentials: list[Tensor | None] = [None] * run.problem.count
    for _ in range(run.options.max_iterations):
        order = list(range(run.problem.count))
        if run.options.random_order:
            order = torch.randperm(run.problem.count, generator=generator).tolist()
        before = run.steps[-1].objective
        if descend(run, order, potentials) == 0 or run.steps[-1].objective > before * (1 - run.options.tolerance):
            break


def begin(run: Run, start: int | str) -> bool:
    """Align all experts for the first time; return True where the result is known to be the best there is.

    Copies are matched with the first expert, as the alternating solver does, and so are all experts where no tolerance
    is given: the result can then only be better than that solver's. Unrelated experts are matched one after another
    with the mean of those before, which comes out far lower for the same work.
    """
    if run.options.tolerance == 0:
        return alternate(run, start)
    first = run.first_center(start)
    few = run.problem.count < FEW
    if first is None or few or not run.problem.weights[first] > 0 or run.pair(first, int(first == 0)).easy:
        return first_round(run, start) and settled(run)
    geometry = run.geometry
    geometry.place(run.problem.identity(), only=[first])
    for k in range(run.problem.count):
        if k != first:
            (joined,) = run.to_mean([(k, None)], others=True)
            geometry.move(k, joined.permutation)
    run.record("coordinate", run.result()[1], run.problem.count * run.problem.neurons)
    return False


def descend(run: Run, order: list[int], potentials: list[Tensor | None]) -> int:
    """Re-match every expert once, in `order`; return how many matches changed.

    Re-matching expert k changes the objective by ``w_k (1 - w_k)`` times the change of its squared distance to the
    mean of the others, which is what the assignment minimises.
    """
    geometry, weights = run.geometry, run.problem.weights.tolist()
    geometry.place(geometry.permutations)
    value, changed = run.steps[-1].objective, 0
    for k in order:
        if not 0 < weights[k] < 1:
            continue
        (matched,) = run.to_mean([(k, potentials[k])], others=True)
        potentials[k] = matched.potential
        moved = int((matched.permutation != geometry.permutations[k]).sum())
        if moved:
            value -= weights[k] * (1 - weights[k]) * matched.gain
            changed += moved
            geometry.move(k, matched.permutation)
    run.record("coordinate", value, changed)
    return changed
