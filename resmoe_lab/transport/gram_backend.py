"""Barycenters from inner products alone.

The center is always an average of permuted experts, so every inner product with it is an average of entries of the
N (N - 1) / 2 matrices ``G_ij = W_i W_j^T``. Each is computed once; later rounds only gather, whatever D is.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from .assignment import solve
from .cost import BLOCK_ENTRIES, add_products, row_norms
from .matching import SAME, Match, Pair, match_pair
from .matching_backends import Rematch
from .problem import Problem

#: Rows that are gathered at a time at least, so that their transpose is not written entry by entry.
ROWS = 8


class Gram:
    """Every inner product is computed once, when it is first needed, and kept.

    Parameters
    ----------
    problem
        The experts.
    scratch
        A folder in which the products are kept in files that are mapped into memory; in memory if left out.
    """

    def __init__(self, problem: Problem, scratch: Path | None = None) -> None:
        self._problem = problem
        self._kept: dict[tuple[int, int], Tensor] = {}
        self._folder = None if scratch is None else tempfile.TemporaryDirectory(prefix="gram-", dir=scratch)
        self._norms = [row_norms(rows) for rows in problem.experts]
        self.buffer = problem.buffer()
        self._members = set(range(problem.count))
        self.permutations = problem.identity()

    def products(self, i: int, j: int) -> Tensor:
        """Return ``W_i W_j^T`` for i <= j, (p_I, p_I) float32."""
        if (i, j) not in self._kept:
            self._kept[i, j] = add_products(self._room(i, j), self._problem.experts[i], self._problem.experts[j])
        return self._kept[i, j]

    def _room(self, i: int, j: int) -> Tensor:
        if self._folder is None:
            return self._problem.buffer().zero_()
        side = self._problem.neurons
        path = Path(self._folder.name) / f"{i}-{j}"
        return torch.from_file(str(path), shared=True, size=side * side, dtype=torch.float32).view(side, side)

    @property
    def lanes(self) -> int:
        """One: gathering takes all threads."""
        return 1

    def pairs(self, wanted: Sequence[tuple[int, int, Tensor | None]]) -> list[Match]:
        """Match the rows of expert i with those of expert j, i < j, for all (i, j, guess)."""
        return [self._pair(i, j, guess) for i, j, guess in wanted]

    def _pair(self, i: int, j: int, guess: Tensor | None) -> Match:
        torch.mul(self.products(i, j), -2, out=self.buffer)
        pair = Pair.complete(self._problem.experts[i], self._problem.experts[j], self.buffer)
        return match_pair(pair, guess=guess)

    def place(self, permutations: Tensor, *, only: Sequence[int] | None = None) -> None:
        """Align all experts anew."""
        self.permutations = permutations.clone()
        self._members = set(range(self._problem.count) if only is None else only)

    def move(self, k: int, permutation: Tensor) -> None:
        """Align expert k anew."""
        self._members.add(k)
        self.permutations[k] = permutation

    def to_mean(self, wanted: Sequence[tuple[int, Tensor | None]], *, others: bool) -> list[Rematch]:
        """Match the mean of the aligned experts (without expert k if `others`) with expert k, for all of them."""
        return [self._to_mean(k, potential, others) for k, potential in wanted]

    def _to_mean(self, k: int, potential: Tensor | None, others: bool) -> Rematch:
        """Match one expert.

        The cost of matching center row j with the expert's row i is ``|w_i|^2 - 2 <c_j, w_i>``; the center's own
        norms are the same for every match.
        """
        members = self._members - {k} if others else self._members
        weights = torch.zeros_like(self._problem.weights)
        weights[list(members)] = self._problem.weights[list(members)]
        self._gather(k, (-2 * weights / weights.sum()).tolist())
        self.buffer.add_(self._norms[k].float())
        present = self.permutations[k]
        rows = torch.arange(len(present))
        costs = self.buffer.cpu()
        before = costs[rows, present].double()
        solution = solve(costs.numpy(), potential)
        after = costs[rows, solution.permutation].double()
        if potential is not None:  # taken off the columns by the solver, in place
            after += potential.float()[solution.permutation]
        gain = float(before.sum() - after.sum())
        if gain <= SAME * float(self._norms[k].sum()):
            return Rematch(present.clone(), solution.col_potential, 0.0)
        return Rematch(solution.permutation, solution.col_potential, gain)

    def _gather(self, k: int, factors: list[float]) -> None:
        """Write ``sum_m factors[m] W_m[T_m] W_k^T`` into the buffer, (center rows, rows of expert k)."""
        orders = [order.to(self.buffer.device) for order in self.permutations]
        before = [m for m in range(k + 1) if factors[m]]
        after = [m for m in range(k + 1, len(factors)) if factors[m]]
        self.buffer.zero_()
        step = max(ROWS, BLOCK_ENTRIES // len(self.buffer))
        for start in range(0, len(self.buffer), step):
            part = slice(start, start + step)
            for m in before:
                self.buffer[part].add_(self.products(m, k).index_select(0, orders[m][part]), alpha=factors[m])
            for m in after:
                turned = self.products(k, m)[part].index_select(1, orders[m])
                self.buffer[:, part].add_(turned.T, alpha=factors[m])

    def close(self) -> None:
        """Give back the products, and the files if there are any."""
        self._kept.clear()
        if self._folder is not None:
            self._folder.cleanup()
