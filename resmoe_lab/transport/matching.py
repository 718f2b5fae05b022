"""Matching two experts exactly, with as little of the cost matrix as it takes to be sure.

Squared distances over the first columns of two design matrices are lower bounds of the whole distances. Where every
neuron has one partner that is nearer, in full, than all others are already in part, the match is optimal and the rest
of the products need not be computed. Experts that began as copies are matched from a fraction of the columns.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from .assignment import solve
from .cost import add_products, blocks, matched_distances, nearest, rounding, row_norms

#: The first look takes this share of the columns, unless the matrix is too narrow for that to save anything.
FIRST_LOOK = 1 / 8
NARROW = 256
#: Where the columns seen say that more than this many times all columns would be needed, nearest rows decide nothing.
HOPELESS = 1.5
#: Where it seems to take more than this share of the columns, all of them are taken at once.
MOST = 0.85
#: A cost that is lower by less than this share is the same cost.
SAME = 1e-7


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
    bound
        No matching whatever costs less, rounding of the products included.
    easy
        True if a look at the nearest rows settled it, as with copies.
    gain
        How much less it costs than the match that was tried first, if one was.
    """

    permutation: Tensor
    potential: Tensor
    cost: float
    bound: float
    easy: bool
    gain: float = 0.0


class Pair:
    """Two matrices (n, D) whose squared distances become known column by column.

    `products` holds ``-2 <a_i, b_j>`` over the first `columns` columns.
    """

    def __init__(self, a: Tensor, b: Tensor, products: Tensor) -> None:
        self.a, self.b, self.products = a, b, products.zero_()
        self.columns, self.width = 0, a.shape[1]
        self.a_norms = torch.zeros(len(a), dtype=torch.float64, device=a.device)
        self.b_norms = torch.zeros(len(b), dtype=torch.float64, device=a.device)

    @classmethod
    def complete(cls, a: Tensor, b: Tensor, products: Tensor) -> Pair:
        """Return a pair whose products are known already."""
        pair = cls(a[:, :0], b[:, :0], products.new_empty(0))
        pair.a, pair.b, pair.products = a, b, products
        pair.columns = pair.width = a.shape[1]
        pair.a_norms, pair.b_norms = row_norms(a), row_norms(b)
        return pair

    def extend(self, columns: int) -> None:
        """Go on to `columns` columns, or all if there are fewer."""
        columns = min(columns, self.width)
        part = slice(self.columns, columns)
        a, b = self.a[:, part], self.b[:, part]
        add_products(self.products, a, b, scale=-2.0)
        self.a_norms += row_norms(a)
        self.b_norms += row_norms(b)
        self.columns = columns

    def nearest(self) -> Tensor:
        """Return the row of b that is nearest to each row of a, as far as is known."""
        norms = self.b_norms.float()
        found = [nearest(self.products[part] + norms) for part in blocks(*self.products.shape)]
        return torch.cat(found)

    def reach(self, potential: Tensor, order: Tensor) -> Tensor:
        """Return ``min_j d(i, j) - potential[j]`` over all j but the partner, (n,) float64, rounding taken off."""
        offset = (self.b_norms * (1 - rounding(self.width)) - potential).float()
        least = []
        for part in blocks(*self.products.shape):
            rows = self.products[part] + offset
            rows.scatter_(1, order[part, None], torch.inf)
            least.append(rows.amin(1))
        return torch.cat(least).double() + self.a_norms * (1 - rounding(self.width))


def match(
    a: Tensor, b: Tensor, *, products: Tensor, guess: Tensor | None = None, potential: Tensor | None = None
) -> Match:
    """Match the rows of `a` with those of `b` at the least sum of squared distances.

    Parameters
    ----------
    a, b
        (n, D) of any float dtype, on one device.
    products
        (n, n) float32 to work in; the only matrix of this size there ever is.
    guess
        (n,) int64, a permutation that may be optimal already: it is tried first, and kept unless another is better.
    potential
        (n,) column potentials of nearly the same problem, to start the assignment from.
    """
    pair = Pair(a, b, products)
    pair.extend(pair.width if pair.width <= NARROW else max(NARROW // 2, int(pair.width * FIRST_LOOK)))
    return match_pair(pair, guess=guess, potential=potential)


def match_pair(pair: Pair, *, guess: Tensor | None = None, potential: Tensor | None = None) -> Match:
    """Do what :func:`match` does, from the columns that are known already."""
    order = pair.nearest() if guess is None else guess.to(pair.products.device)
    if guess is not None or torch.unique(order).numel() == len(order):
        matched = matched_distances(pair.a, pair.b, order)
        easy = _by_nearest(pair, order, matched)
        if easy is not None:
            return easy
    hard = _by_assignment(pair, potential)
    if guess is None:
        return hard
    present = float(matched.sum())
    if hard.cost < present * (1 - SAME):
        return replace(hard, gain=present - hard.cost)
    return replace(hard, permutation=guess.cpu(), cost=present)


def _by_nearest(pair: Pair, order: Tensor, matched: Tensor) -> Match | None:
    """Show that `order` is optimal with half of each matched distance as potentials, if they are feasible."""
    half = matched / 2
    potential = torch.empty_like(half)
    potential[order] = half
    while True:
        reach = pair.reach(potential, order)
        if bool((reach >= half).all()):
            cost = float(matched.sum())
            return Match(order.cpu(), potential.cpu(), cost, cost, easy=True)
        needed = 1.05 * pair.columns * float((matched / (reach + half).clamp_(min=1e-30)).max())
        if pair.columns == pair.width or needed > pair.width * HOPELESS:
            return None
        worth_it = needed < pair.width * MOST
        pair.extend(max(int(needed), pair.columns + pair.width // 16) + 1 if worth_it else pair.width)


def _by_assignment(pair: Pair, potential: Tensor | None) -> Match:
    if pair.columns < pair.width:
        pair.extend(pair.width)
    solution = solve(pair.products.add_(pair.b_norms.float()).cpu().numpy(), potential)
    cost = float(matched_distances(pair.a, pair.b, solution.permutation).sum())
    norms = float(pair.a_norms.sum())
    dual = float(solution.row_potential.sum() + solution.col_potential.sum()) + norms
    bound = dual - rounding(pair.width) * (norms + float(pair.b_norms.sum()))
    return Match(solution.permutation, solution.col_potential, cost, min(max(bound, 0.0), cost), easy=False)
