"""Matching experts with the mean of the others, over and over, computing again only what has changed."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .assignment import solve_changed_rows
from .cost import add_products, row_norms
from .matching import EQUAL_COST
from .problem import Problem


@dataclass
class _LastMatch:
    """An expert's costs with the mean of the others, their solution, and which rows of the mean changed since."""

    costs: NDArray[np.float32]
    center_norms: NDArray[np.float64]
    columns: NDArray[np.int64]
    stale: Tensor
    potential: NDArray[np.float64] | None = field(default=None)

    def cost(self, columns: NDArray[np.int64]) -> float:
        """Return the sum of the squared distances that a permutation matches."""
        matched = self.costs[np.arange(len(columns)), columns].sum(dtype=np.float64)
        return float(matched + self.center_norms.sum())


class RepeatedMatching:
    """Coordinate descent on the permutations of N experts: one at a time is matched with the mean of the others.

    When an expert is matched again, few rows of that mean have changed in later rounds. The costs of the others are
    those of its last match and so are their columns, whose potentials still prove them; only paths from the changed
    rows are searched. N matrices (p_I, p_I) float32 are kept for it.

    Parameters
    ----------
    problem
        The experts.

    Attributes
    ----------
    permutations
        (N, p_I) int64 on the CPU; at first identities.
    """

    def __init__(self, problem: Problem) -> None:
        self._problem = problem
        self.permutations = problem.identity()
        self._sum = problem.mean(self.permutations)
        self._last: dict[int, _LastMatch] = {}

    @staticmethod
    def needed_bytes(count: int, neurons: int) -> int:
        """Return the memory that is kept for `count` experts."""
        return 4 * count * neurons**2

    def match(self, k: int) -> bool:
        """Match expert k with the mean of the others, and return whether that is better than its permutation."""
        last = self._last.get(k)
        if last is None:
            last = self._last[k] = self._without_match()
        if not bool(last.stale.any()):
            return False
        self._update_costs(last, k)
        last.columns, last.potential = solve_changed_rows(last.costs, last.potential, last.columns)
        current = self.permutations[k]
        if last.cost(last.columns) >= last.cost(current.numpy()) * (1 - EQUAL_COST):
            return False
        self._move(k, torch.from_numpy(last.columns.copy()), current)
        return True

    def _without_match(self) -> _LastMatch:
        size = self._problem.neurons
        stale = torch.ones(size, dtype=torch.bool)
        return _LastMatch(np.empty((size, size), np.float32), np.empty(size), np.full(size, -1), stale)

    def _update_costs(self, last: _LastMatch, k: int) -> None:
        """Compute the costs of the rows of the mean that have changed, and take their columns away."""
        problem, rows = self._problem, last.stale.nonzero().flatten()
        expert, places = problem.experts[k], rows.to(problem.device)
        weight = float(problem.weights[k])
        own = expert.block(self.permutations[k][rows].to(problem.device)).float()
        center = (self._sum[places] - weight * own) / (1 - weight)
        costs = add_products(torch.zeros(len(rows), problem.neurons, device=problem.device), center, expert, scale=-2.0)
        costs += row_norms(expert).float()
        torch.from_numpy(last.costs)[rows] = costs.cpu()
        torch.from_numpy(last.center_norms)[rows] = row_norms(center).cpu()
        last.columns[rows.numpy()] = -1
        last.stale.zero_()

    def _move(self, k: int, permutation: Tensor, before: Tensor) -> None:
        """Align expert k anew in the mean; the rows that change are stale for all other experts."""
        changed = permutation != before
        rows = changed.nonzero().flatten()
        expert, device, weight = self._problem.experts[k], self._problem.device, float(self._problem.weights[k])
        difference = expert.block(permutation[rows].to(device)).float() - expert.block(before[rows].to(device)).float()
        self._sum.index_add_(0, rows.to(device), difference, alpha=weight)
        self.permutations[k] = permutation
        for other, last in self._last.items():
            if other != k:
                last.stale |= changed
