"""How good a barycenter can be at all: a lower bound from dual potentials.

For any center whatever, the objective is at least ``sum_{i<j} w_i w_j W2^2(W_i, W_j)`` (the multi-marginal identity),
and any feasible pair of potentials bounds each distance from below.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from .._core.progress import Progress, Tick
from .assignment import assign
from .cost import squared_distances

if TYPE_CHECKING:
    from .problem import Problem


@dataclass(frozen=True)
class Certificate:
    """A lower bound on the objective of every possible center.

    Attributes
    ----------
    lower_bound
        No center can have a lower objective (an ``"estimate"`` only expects so).
    gap
        ``(objective - lower_bound) / lower_bound``, at least 0; 0/0 counts as 0.
    kind
        ``"bound"`` if every pair of experts was looked at, ``"estimate"`` if pairs were sampled.
    pairs
        How many pairs were looked at.
    """

    lower_bound: float
    gap: float
    kind: str
    pairs: int


def certify(problem: Problem, permutations: Tensor, objective: float, *, progress: Progress) -> Certificate:
    """Bound the objective of every center from below."""
    pairs = list(combinations(range(problem.count), 2))
    buffer = problem.buffer()
    bound = 0.0
    progress(Tick("certificate", 0, len(pairs)))
    for done, (i, j) in enumerate(pairs, start=1):
        cost = squared_distances(problem.expert(i, permutations[i]), problem.expert(j, permutations[j]), out=buffer)
        matched = assign(cost)
        value = float(matched.row_potential.sum() + matched.col_potential.sum())
        bound += float(problem.weights[i] * problem.weights[j]) * max(value, 0.0)
        progress(Tick("certificate", done, len(pairs), {"bound": bound}))
    return certificate_from(min(bound, objective), objective, pairs=len(pairs))


def certificate_from(bound: float, objective: float, *, pairs: int, kind: str = "bound") -> Certificate:
    """Put a bound and an objective together; 0/0 is a gap of 0."""
    excess = max(objective - bound, 0.0)
    gap = 0.0 if excess == 0 else (excess / bound if bound > 0 else float(torch.inf))
    return Certificate(lower_bound=bound, gap=gap, kind=kind, pairs=pairs)
