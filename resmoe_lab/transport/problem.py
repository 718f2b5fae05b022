"""The validated input of a barycenter search: the experts of one layer and their weights."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import torch
from torch import Tensor

from .._core.errors import UsageError, WeightError
from .cost import blocks


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
        self.experts = list(stack)
        _check_shapes(self.experts)
        self.count = len(self.experts)
        self.neurons, self.width = self.experts[0].shape
        self.device = self.experts[0].device
        self.weights = normalized_weights(weights, self.count)

    def expert(self, index: int, order: Tensor | None = None) -> Tensor:
        """Return one expert in float32, with its rows in `order`."""
        rows = self.experts[index]
        return (rows if order is None else rows[order.to(rows.device)]).float()

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
            total[part].add_(self.experts[index][order[part]], alpha=factor)

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
    # A sum takes one pass and no memory, and is NaN or infinite if any entry is.
    if not bool(torch.isfinite(rows.sum(dtype=torch.float32))):
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
