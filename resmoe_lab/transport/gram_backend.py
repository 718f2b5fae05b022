"""A matching backend that computes every inner product of two experts once.

The center is always an average of permuted experts, so every inner product with it is an average of entries of the
N (N - 1) / 2 matrices ``G_ij = W_i W_j^T``. Each is computed once; later rounds only gather entries, whatever D is.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from .._core.files import reserve
from .._core.threads import map_with_buffers
from .assignment import solve
from .cost import add_products, row_norms
from .matching import EQUAL_COST, Match, PartialDistances, match_distances
from .matching_backends import Realignment
from .problem import Problem
from .rows import BLOCK_ENTRIES

#: Minimum of rows that are gathered at a time, so that their transpose is not written entry by entry.
MIN_ROWS = 8


class GramBackend:
    """Computes every inner product once, when it is first needed, and caches it.

    Parameters
    ----------
    problem
        The experts.
    scratch
        Folder for memory-mapped files of the products (default: they are held in memory).
    threads
        Number of pairs of experts that are matched at the same time.
    """

    def __init__(self, problem: Problem, scratch: Path | None = None, *, threads: int = 1) -> None:
        self._problem = problem
        self._products: dict[tuple[int, int], Tensor] = {}
        self._folder = None if scratch is None else tempfile.TemporaryDirectory(prefix="gram-", dir=scratch)
        self._norms = [row_norms(rows) for rows in problem.experts]
        self.buffer = problem.buffer()
        self._buffers = [self.buffer, *(problem.buffer() for _ in range(threads - 1))]
        self._members = set(range(problem.count))
        self.permutations = problem.identity()

    def products(self, i: int, j: int) -> Tensor:
        """Return ``W_i W_j^T`` for i <= j, (p_I, p_I) float32."""
        if (i, j) not in self._products:
            self._products[i, j] = add_products(
                self._empty_matrix(i, j), self._problem.experts[i], self._problem.experts[j]
            )
        return self._products[i, j]

    def _empty_matrix(self, i: int, j: int) -> Tensor:
        if self._folder is None:
            return self._problem.buffer().zero_()
        size = self._problem.neurons
        path = Path(self._folder.name) / f"{i}-{j}"
        reserve(path, 4 * size * size)
        return torch.from_file(str(path), shared=True, size=size * size, dtype=torch.float32).view(size, size)

    @property
    def threads(self) -> int:
        """Number of pairs matched at the same time; gathering for the mean uses all threads."""
        return len(self._buffers)

    def match_pairs(self, queries: Sequence[tuple[int, int, Tensor | None]]) -> list[Match]:
        """Match the rows of expert i with those of expert j, i < j, for all (i, j, candidate)."""
        jobs = [partial(self._match_pair, i, j, candidate) for i, j, candidate in queries]
        return map_with_buffers(jobs, self._buffers)

    def _match_pair(self, i: int, j: int, candidate: Tensor | None, buffer: Tensor) -> Match:
        torch.mul(self.products(i, j), -2, out=buffer)
        distances = PartialDistances.complete(self._problem.experts[i], self._problem.experts[j], buffer)
        return match_distances(distances, candidate=candidate)

    def set_permutations(self, permutations: Tensor, *, members: Sequence[int] | None = None) -> None:
        """Set the permutations of all experts, and the members of the mean."""
        self.permutations = permutations.clone()
        self._members = set(range(self._problem.count) if members is None else members)

    def set_permutation(self, k: int, permutation: Tensor) -> None:
        """Set the permutation of expert k and make it a member of the mean."""
        self._members.add(k)
        self.permutations[k] = permutation

    def match_to_mean(self, queries: Sequence[tuple[int, Tensor | None]], *, exclude_self: bool) -> list[Realignment]:
        """Match the mean of the aligned experts (without expert k if `exclude_self`) with expert k, for all queries."""
        return [self._match_to_mean(k, potential, exclude_self) for k, potential in queries]

    def _match_to_mean(self, k: int, potential: Tensor | None, exclude_self: bool) -> Realignment:
        """Match the mean with expert k.

        The cost of matching center row j with the expert's row i is ``|w_i|^2 - 2 <c_j, w_i>``; the center's own
        norms are the same for every match.
        """
        members = self._members - {k} if exclude_self else self._members
        weights = torch.zeros_like(self._problem.weights)
        weights[list(members)] = self._problem.weights[list(members)]
        self._gather(k, (-2 * weights / weights.sum()).tolist())
        self.buffer.add_(self._norms[k].float())
        current = self.permutations[k]
        rows = torch.arange(len(current))
        costs = self.buffer.cpu()
        before = float(costs[rows, current].double().sum())
        assignment = solve(costs.numpy(), potential)
        gain = before - assignment.cost
        if gain <= EQUAL_COST * float(self._norms[k].sum()):
            return Realignment(current.clone(), assignment.col_potential, 0.0)
        return Realignment(assignment.permutation, assignment.col_potential, gain)

    def _gather(self, k: int, factors: list[float]) -> None:
        """Write ``sum_m factors[m] W_m[T_m] W_k^T`` into the buffer, (center rows, rows of expert k)."""
        orders = [order.to(self.buffer.device) for order in self.permutations]
        before = [m for m in range(k + 1) if factors[m]]
        after = [m for m in range(k + 1, len(factors)) if factors[m]]
        self.buffer.zero_()
        step = max(MIN_ROWS, BLOCK_ENTRIES // len(self.buffer))
        for start in range(0, len(self.buffer), step):
            part = slice(start, start + step)
            for m in before:
                self.buffer[part].add_(self.products(m, k).index_select(0, orders[m][part]), alpha=factors[m])
            for m in after:
                columns = self.products(k, m)[part].index_select(1, orders[m])
                self.buffer[:, part].add_(columns.T, alpha=factors[m])

    def close(self) -> None:
        """Release the products and remove their files."""
        self._products.clear()
        if self._folder is not None:
            self._folder.cleanup()
