"""How good a barycenter can be at all: a lower bound from dual potentials.

For any center whatever, the objective is at least ``sum_{i<j} w_i w_j W2^2(W_i, W_j)`` (the multi-marginal identity),
and feasible potentials bound each distance from below.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from .result import Certificate
from .run import Run
from .threads import chunks

#: A screened bound that is lower than the true distances by less than this share is good enough.
TIGHT = 1e-5


def settled(run: Run) -> bool:
    """Whether the permutations as they stand are known to be the best there are.

    The center's own rows may show it. If not, and all pairs will be matched anyway, they are, as long as each turns
    out to be aligned as well as it can be.
    """
    aligned, bounds = run.screened()
    if bool(bounds.sum() >= aligned.sum() * (1 - TIGHT)):
        return True
    if not run.options.match_pairs:
        return False
    return all(
        bound >= aligned[i, j] * (1 - TIGHT)
        for some in chunks(run.all_pairs(), run.geometry.lanes)
        for (i, j), bound in zip(some, _pair_bounds(run, some), strict=True)
    )


def _pair_bounds(run: Run, pairs: Sequence[tuple[int, int]]) -> list[float]:
    """Bound the distances of some pairs from below, matching those that have not been bounded well enough."""
    aligned, bounds = run.screened()
    open_pairs = [(i, j) for i, j in pairs if bounds[i, j] < aligned[i, j] * (1 - TIGHT)]
    run.match_pairs(open_pairs, aligned=True)
    for i, j in open_pairs:
        bounds[i, j] = max(float(bounds[i, j]), run.pair(i, j).bound)
    return [float(bounds[i, j]) for i, j in pairs]


def certify(run: Run, objective: float, *, sample_pairs: int | None = None) -> Certificate:
    """Bound the objective of every center from below.

    All pairs at once are tried by :func:`~resmoe_lab.transport.bounds.screen`; those that it leaves open are matched.
    """
    aligned, _ = run.screened()
    pairs = run.all_pairs()
    chosen = pairs
    if sample_pairs is not None and sample_pairs < len(pairs):
        generator = torch.Generator().manual_seed(run.options.seed)
        chosen = [pairs[i] for i in torch.randperm(len(pairs), generator=generator)[:sample_pairs].tolist()]
    weights = run.problem.weights
    bounds = _pair_bounds(run, chosen)
    bound = sum(float(weights[i] * weights[j]) * least for (i, j), least in zip(chosen, bounds, strict=True))
    if len(chosen) < len(pairs):
        # The objective is the weighted sum of the aligned distances: the share found in the sample is taken for all.
        seen = sum(float(weights[i] * weights[j] * aligned[i, j]) for i, j in chosen)
        bound = bound * objective / seen if seen > 0 else 0.0
    return certificate_from(
        min(bound, objective), objective, pairs=len(chosen), kind="bound" if chosen is pairs else "estimate"
    )


def certificate_from(bound: float, objective: float, *, pairs: int, kind: str = "bound") -> Certificate:
    """Put a bound and an objective together; 0/0 is a gap of 0."""
    excess = max(objective - bound, 0.0)
    gap = 0.0 if excess == 0 else (excess / bound if bound > 0 else float("inf"))
    return Certificate(lower_bound=bound, gap=gap, kind=kind, pairs=pairs)
