"""POT's free-support barycenter as the published code calls it, for comparison."""

from __future__ import annotations

import warnings

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment

from ..run import SOLVERS, Run

#: The arguments of the published code.
NUM_ITER_MAX, STOP_THRESHOLD = 100, 1e-7


@SOLVERS.register("pot")
def pot(run: Run) -> None:
    """Call ``ot.lp.free_support_barycenter`` and take the permutations from its last plans, as the published code does.

    POT's network simplex stops without an error at 100,000 iterations, so its plans need not be optimal, and the argmax
    of a plan need not be a permutation; where it is not, the plan is rounded to the nearest one.
    """
    import ot

    problem = run.problem
    masses = np.full(problem.neurons, 1.0 / problem.neurons)
    points = [problem.expert(k).double().cpu().numpy() for k in range(problem.count)]
    expert = run.start_expert(run.options.start)
    first = problem.mean(problem.identity()).double().cpu().numpy() if expert is None else points[expert]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the simplex stopped early, as it does in the published code
        center = ot.lp.free_support_barycenter(
            points,
            [masses] * problem.count,
            first,
            masses,
            weights=problem.weights.numpy(),
            numItermax=min(run.options.max_iterations, NUM_ITER_MAX),
            stopThr=STOP_THRESHOLD,
        )
        plans = [ot.emd(masses, masses, ot.dist(center, rows)) for rows in points]
        run.tick("barycenter")
    permutations = torch.stack([torch.from_numpy(_permutation(plan)) for plan in plans])
    run.backend.set_permutations(permutations)
    run.record("pot", run.result()[1], int((permutations != problem.identity()).sum()))


def _permutation(plan: np.ndarray) -> np.ndarray:
    columns = plan.argmax(1)
    return columns if np.unique(columns).size == len(columns) else linear_sum_assignment(plan, maximize=True)[1]
