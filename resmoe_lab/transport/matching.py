"""Exact matching of two experts from as few columns of the cost matrix as an optimality proof takes.

Squared distances over the first columns of two design matrices are lower bounds of the full distances. If the full
distance of every neuron to its partner is below these bounds for all other neurons, the match is optimal and the other
products need not be computed. Experts that are noisy copies are matched from a fraction of the columns.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from .assignment import solve
from .cost import add_products, matched_distances, nearest, rounding, row_norms
from .rows import Rows, as_rows, blocks

#: The first step takes this fraction of the columns, unless the matrix is too narrow for that to save anything.
FIRST_FRACTION = 1 / 8
NARROW_WIDTH = 256
#: If more than this many times all columns seem to be needed, nearest rows cannot prove the match optimal.
GIVE_UP = 1.5
#: If more than this fraction of the columns seems to be needed, all of them are taken at once.
ALL_COLUMNS = 0.85
#: Costs that differ by less than this fraction are equal.
EQUAL_COST = 1e-7


@dataclass(frozen=True)
class Match:
    """An optimal matching of the rows of one matrix with those of another.

    Attributes
    ----------
    permutation
        (n,) int64 on the CPU: row i of the first is matched with row ``permutation[i]`` of the second.
    potential
        (n,) float64 column potentials of the squared distances, on the CPU.
    cost
        Sum of the matched squared distances, float64.
    lower_bound
        Of every matching's cost, rounding errors of the products included.
    skipped_assignment
        True if a candidate was proved optimal without solving an assignment problem, as with copies.
    gain
        Decrease of the cost from the candidate's, if one was given.
    """

    permutation: Tensor
    potential: Tensor
    cost: float
    lower_bound: float
    skipped_assignment: bool
    gain: float = 0.0


class PartialDistances:
    """Squared distances between the rows of two matrices (n, D), computed a range of columns at a time.

    `products` holds ``-2 <a_i, b_j>`` over the first `columns` columns.
    """

    def __init__(self, a: Tensor | Rows, b: Tensor | Rows, products: Tensor) -> None:
        self.a, self.b, self.products = as_rows(a), as_rows(b), products.zero_()
        self.columns, self.width = 0, a.shape[1]
        self.a_norms = torch.zeros(len(a), dtype=torch.float64, device=a.device)
        self.b_norms = torch.zeros(len(b), dtype=torch.float64, device=a.device)

    @classmethod
    def complete(cls, a: Rows, b: Rows, products: Tensor) -> PartialDistances:
        """Return distances of all columns, from given products."""
        distances = cls(a, b, products.new_empty(0))
        distances.products, distances.columns = products, distances.width
        distances.a_norms, distances.b_norms = row_norms(a), row_norms(b)
        return distances

    def extend(self, columns: int) -> None:
        """Extend the products to the first `columns` columns, or all if there are fewer."""
        columns = min(columns, self.width)
        part = slice(self.columns, columns)
        a, b = self.a.columns(part), self.b.columns(part)
        add_products(self.products, a, b, scale=-2.0)
        self.a_norms += row_norms(a)
        self.b_norms += row_norms(b)
        self.columns = columns

    def nearest(self) -> Tensor:
        """Return the row of b that is nearest to each row of a, over the columns seen so far."""
        norms = self.b_norms.float()
        indices = [nearest(self.products[part] + norms) for part in blocks(*self.products.shape)]
        return torch.cat(indices)

    def c_transform(self, potential: Tensor, *, exclude: Tensor) -> Tensor:
        """Return ``min_j d(i, j) - potential[j]`` over j other than ``exclude[i]``, (n,) float64, minus rounding."""
        offset = (self.b_norms * (1 - rounding(self.width)) - potential).float()
        minima = []
        for part in blocks(*self.products.shape):
            rows = self.products[part] + offset
            rows.scatter_(1, exclude[part, None], torch.inf)
            minima.append(rows.amin(1))
        return torch.cat(minima).double() + self.a_norms * (1 - rounding(self.width))


def initial_columns(width: int) -> int:
    """Return how many of `width` columns the first step takes."""
    return width if width <= NARROW_WIDTH else max(NARROW_WIDTH // 2, int(width * FIRST_FRACTION))


def match(
    a: Tensor | Rows,
    b: Tensor | Rows,
    *,
    products: Tensor,
    candidate: Tensor | None = None,
    potential: Tensor | None = None,
) -> Match:
    """Match the rows of `a` with those of `b` one to one, at the least sum of squared distances.

    Parameters
    ----------
    a, b
        (n, D) of any float dtype, on one device.
    products
        (n, n) float32 buffer; no other matrix of this size is allocated.
    candidate
        (n,) int64, a permutation that may be optimal: it is tried first, and returned unless another is better.
    potential
        (n,) column potentials of a similar problem, as a warm start of the assignment.
    """
    distances = PartialDistances(a, b, products)
    distances.extend(initial_columns(distances.width))
    return match_distances(distances, candidate=candidate, potential=potential)


def match_distances(
    distances: PartialDistances, *, candidate: Tensor | None = None, potential: Tensor | None = None
) -> Match:
    """Do what :func:`match` does, from the columns computed so far."""
    permutation = distances.nearest() if candidate is None else candidate.to(distances.products.device)
    if candidate is not None or torch.unique(permutation).numel() == len(permutation):
        matched = matched_distances(distances.a, distances.b, permutation)
        proved = _prove_optimal(distances, permutation, matched)
        if proved is not None:
            return proved
    solved = _solve_assignment(distances, potential)
    if candidate is None:
        return solved
    candidate_cost = float(matched.sum())
    if solved.cost < candidate_cost * (1 - EQUAL_COST):
        return replace(solved, gain=candidate_cost - solved.cost)
    return replace(solved, permutation=candidate.cpu(), cost=candidate_cost)


def _prove_optimal(distances: PartialDistances, permutation: Tensor, matched: Tensor) -> Match | None:
    """Prove `permutation` optimal with half of each matched distance as potentials, if they are feasible."""
    half = matched / 2
    potential = torch.empty_like(half)
    potential[permutation] = half
    while True:
        row_potential = distances.c_transform(potential, exclude=permutation)
        if bool((row_potential >= half).all()):
            cost = float(matched.sum())
            return Match(permutation.cpu(), potential.cpu(), cost, cost, skipped_assignment=True)
        needed = 1.05 * distances.columns * float((matched / (row_potential + half).clamp_(min=1e-30)).max())
        if distances.columns == distances.width or needed > distances.width * GIVE_UP:
            return None
        partial = needed < distances.width * ALL_COLUMNS
        distances.extend(
            max(int(needed), distances.columns + distances.width // 16) + 1 if partial else distances.width
        )


def _solve_assignment(distances: PartialDistances, potential: Tensor | None) -> Match:
    if distances.columns < distances.width:
        distances.extend(distances.width)
    assignment = solve(distances.products.add_(distances.b_norms.float()).cpu().numpy(), potential)
    cost = float(matched_distances(distances.a, distances.b, assignment.permutation).sum())
    norms = float(distances.a_norms.sum())
    dual_value = float(assignment.row_potential.sum() + assignment.col_potential.sum()) + norms
    lower_bound = dual_value - rounding(distances.width) * (norms + float(distances.b_norms.sum()))
    return Match(
        assignment.permutation,
        assignment.col_potential,
        cost,
        min(max(lower_bound, 0.0), cost),
        skipped_assignment=False,
    )
