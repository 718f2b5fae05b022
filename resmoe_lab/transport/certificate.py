"""The certificate of a barycenter: a lower bound of every center's objective, from dual potentials.

The objective of any center is at least ``sum_{i<j} w_i w_j W2^2(W_i, W_j)`` (the multi-marginal identity),
and feasible potentials bound each distance from below.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from .._core.threads import chunked
from .cost import row_norms
from .result import Certificate
from .run import Run

#: A bound of a pair's distance is tight enough if it is below the aligned distance by less than this fraction.
TIGHTNESS = 1e-5


def is_optimal(run: Run) -> bool:
    """Whether the current permutations are known to be optimal.

    The bounds of all pairs at once may prove it. If not, and all pairs will be matched for the certificate anyway, each
    is matched now, until one of them turns out not to be optimally aligned.
    """
    aligned, bounds = run.pair_bounds()
    if bool(bounds.sum() >= aligned.sum() * (1 - TIGHTNESS)):
        return True
    if not run.options.match_pairs:
        return False
    return all(
        bound >= aligned[i, j] * (1 - TIGHTNESS)
        for batch in chunked(run.all_pairs(), run.backend.threads)
        for (i, j), bound in zip(batch, _tightened_bounds(run, batch), strict=True)
    )


def _tightened_bounds(run: Run, pairs: Sequence[tuple[int, int]]) -> list[float]:
    """Return lower bounds of some pairs' distances, after matching the pairs whose bounds are not tight."""
    aligned, bounds = run.pair_bounds()
    loose_pairs = [(i, j) for i, j in pairs if bounds[i, j] < aligned[i, j] * (1 - TIGHTNESS)]
    run.match_pairs(loose_pairs, try_aligned=True)
    for i, j in loose_pairs:
        bounds[i, j] = max(float(bounds[i, j]), run.pair(i, j).lower_bound)
    return [float(bounds[i, j]) for i, j in pairs]


def certify(run: Run, objective: float, *, sample_pairs: int | None = None) -> Certificate:
    """Bound the objective of every center from below.

    All pairs are bounded at once by :func:`~resmoe_lab.transport.bounds.bound_all_pairs`; those whose bounds are not
    tight are matched. `objective` is that of the experts as the search sees them.
    """
    aligned, _ = run.pair_bounds()
    pairs = run.all_pairs()
    selected = pairs
    if sample_pairs is not None and sample_pairs < len(pairs):
        generator = torch.Generator().manual_seed(run.options.seed)
        selected = [pairs[i] for i in torch.randperm(len(pairs), generator=generator)[:sample_pairs].tolist()]
    weights = run.problem.weights
    bounds = _tightened_bounds(run, selected)
    lower_bound = sum(float(weights[i] * weights[j]) * bound for (i, j), bound in zip(selected, bounds, strict=True))
    if len(selected) < len(pairs):
        # The objective is the weighted sum of the aligned distances: the ratio of the sample is extrapolated.
        sampled = sum(float(weights[i] * weights[j] * aligned[i, j]) for i, j in selected)
        lower_bound = lower_bound * objective / sampled if sampled > 0 else 0.0
    if lower_bound <= 0 < objective and objective <= _rounding_of_center(run):
        objective = max(lower_bound, 0.0)  # copies of one expert, whose mean was rounded
    bound, value = (run.problem.in_their_unit(each) for each in (min(lower_bound, objective), objective))
    return certificate_from(bound, value, pairs=len(selected), kind="bound" if selected is pairs else "estimate")


def _rounding_of_center(run: Run) -> float:
    """Return an objective that rounding the entries of a center to float32 alone may leave."""
    norms = [float(row_norms(rows).sum()) for rows in run.problem.experts]
    share = (4 * torch.finfo(torch.float32).eps) ** 2
    return share * sum(weight * norm for weight, norm in zip(run.problem.weights.tolist(), norms, strict=True))


def certificate_from(lower_bound: float, objective: float, *, pairs: int, kind: str = "bound") -> Certificate:
    """Compute the gap between a lower bound and an objective; 0/0 is a gap of 0."""
    excess = max(objective - lower_bound, 0.0)
    gap = 0.0 if excess == 0 else (excess / lower_bound if lower_bound > 0 else float("inf"))
    return Certificate(lower_bound=lower_bound, gap=gap, kind=kind, pairs=pairs)
