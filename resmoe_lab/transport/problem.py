"""The validated input of a barycenter search: the experts of one layer and their weights.

What every neuron of an expert shares changes no match, and neither does a factor: the search works on the experts less
their means and in a unit near 1 (see :mod:`~resmoe_lab.transport.rows`). The distances between the means are added at
the end: ``|W_i - W_j|^2 = |W_i' - W_j'|^2 + p_I |m_i - m_j|^2`` for aligned experts W' = W - m of zero mean.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import torch
from torch import Tensor

from .._core.errors import UsageError, WeightError
from .rows import blocks, normalized


class Problem:
    """N design matrices of one shape with their weights.

    Parameters
    ----------
    stack
        (N, p_I, D) or N tensors (p_I, D), of any float dtype; never copied as a whole.
    weights
        (N,) non-negative, scaled to sum 1 (default: equal).

    Raises
    ------
    WeightError
        If there is no expert, shapes differ, or a value is NaN or infinite.
    UsageError
        If the weights are not N non-negative numbers, or all zero.
    """

    def __init__(self, stack: Tensor | Sequence[Tensor], weights: Tensor | Sequence[float] | None = None) -> None:
        matrices = list(stack)
        _check_shapes(matrices)
        self.count = len(matrices)
        self.neurons, self.width = matrices[0].shape
        self.device = matrices[0].device
        self.weights = normalized_weights(weights, self.count)
        self.experts = normalized(matrices)
        self.mean_distances = self._mean_distances()
        self._between_means = float(self.weights @ self.mean_distances @ self.weights) / 2

    def expert(self, index: int, order: Tensor | None = None) -> Tensor:
        """Return one expert as the search sees it in float32, with its rows in `order`."""
        rows = self.experts[index]
        return rows.block(... if order is None else order.to(rows.device)).float()

    def in_their_unit(self, objective: float) -> float:
        """Return the objective of the experts as they were given from that of the experts as the search sees them.

        A lower bound of one is a lower bound of the other.
        """
        return (objective + self._between_means) * self.experts[0].scale ** -2

    def center(self, permutations: Tensor, mean: Tensor) -> Tensor:
        """Return the center of the experts as they were given from the `mean` of those that the search sees.

        Where they differ it is computed again, so that it is rounded only once: (p_I, D) float32.
        """
        if self.experts[0].plain:
            return mean
        center, orders = torch.empty_like(mean), permutations.to(self.device)
        for part in blocks(*center.shape):
            total = torch.zeros(center[part].shape, dtype=torch.float64, device=self.device)
            for rows, order, weight in zip(self.experts, orders, self.weights.tolist(), strict=True):
                total.add_(rows.values[order[part]].double(), alpha=weight)
            center[part] = total
        return center

    def _mean_distances(self) -> Tensor:
        """Return ``p_I |m_i - m_j|^2`` in the search's unit, (N, N) float64 on the CPU."""
        shifts = [rows.shift for rows in self.experts]
        if shifts[0] is None:
            return torch.zeros(self.count, self.count, dtype=torch.float64)
        means = torch.stack([shift for shift in shifts if shift is not None]) * self.experts[0].scale
        means = means - means[0]
        squares = torch.stack([(means - mean).square().sum(1) for mean in means])
        return (self.neurons * squares).cpu()

    def buffer(self) -> Tensor:
        """Return an uninitialized (p_I, p_I) float32 cost matrix."""
        return torch.empty(self.neurons, self.neurons, device=self.device)

    def mean(self, permutations: Tensor, *, members: Collection[int] | None = None) -> Tensor:
        """Return the weighted mean of the aligned experts, (p_I, D) float32: the best center for these permutations.

        With `members`, the sum is over these experts only, with the same weights.
        """
        total = torch.zeros(self.neurons, self.width, device=self.device)
        for index, weight in enumerate(self.weights.tolist()):
            if members is not None and index not in members:
                continue
            self.add_to(total, index, permutations[index], factor=weight)
        return total

    def add_to(self, total: Tensor, index: int, order: Tensor, *, factor: float) -> None:
        """Add a multiple of an aligned expert to `total` (p_I, D), without a copy of the expert."""
        order = order.to(self.device)
        for part in blocks(self.neurons, self.width):
            total[part].add_(self.experts[index].block(order[part]), alpha=factor)

    def identity(self) -> Tensor:
        """Return the identity permutation of every expert, (N, p_I) int64."""
        return torch.arange(self.neurons).repeat(self.count, 1)


def _check_shapes(experts: list[Tensor]) -> None:
    if not experts:
        raise WeightError("no expert to find a center of, expected at least one: check which layer was selected")
    for index, rows in enumerate(experts):
        check_expert(rows, index)
        if rows.shape != experts[0].shape:
            raise WeightError(
                f"expert {index} has shape {tuple(rows.shape)} and expert 0 {tuple(experts[0].shape)}, "
                "expected one shape for all: use soft_barycenter for unequal numbers of neurons"
            )


def check_expert(rows: Tensor, index: int) -> None:
    """Check that an expert is a float matrix with finite entries.

    Raises
    ------
    WeightError
        If it is not.
    """
    if rows.ndim != 2 or 0 in rows.shape or not rows.is_floating_point():
        raise WeightError(
            f"expert {index} is a {rows.dtype} tensor of shape {tuple(rows.shape)}, "
            "expected a float matrix (p_I, D) that is not empty"
        )
    # The minimum and maximum take one pass and no memory, and are NaN if any entry is.
    if not bool(torch.isfinite(torch.stack(rows.aminmax())).all()):
        raise WeightError(f"expert {index} holds NaN or infinity, expected finite weights: check the checkpoint")


def normalized_weights(weights: Tensor | Sequence[float] | None, count: int) -> Tensor:
    """Return the weights of `count` experts scaled to sum 1, (N,) float64 on the CPU.

    Raises
    ------
    UsageError
        If they are not `count` non-negative numbers, or all zero.
    """
    if weights is None:
        return torch.full((count,), 1.0 / count, dtype=torch.float64)
    normalized = torch.as_tensor(weights, dtype=torch.float64).cpu()
    valid = normalized.shape == (count,) and bool((torch.isfinite(normalized) & (normalized >= 0)).all())
    if not valid or float(normalized.sum()) <= 0:
        raise UsageError(
            f"weights {normalized.tolist()} for {count} experts, expected {count} non-negative numbers, not all zero"
        )
    return normalized / normalized.sum()
