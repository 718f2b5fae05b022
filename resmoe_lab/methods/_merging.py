"""Methods that merge the experts of a layer into fewer: one stored matrix a group, and a map from experts to groups."""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Sequence
from typing import ClassVar

import torch

from .._core.errors import UsageError
from .._core.params import KEEP
from ..centers import Center, Statistics
from ..experts import ExpertStack, LayerShape
from ..store.encodings import roundtrip
from ..store.layout import DEFAULT_STORAGE, Storage
from ..store.matrices import CompressedMatrix, DenseMatrix
from ..transport.cost import matched_distances
from ._base import Method
from ._layer import Compressed
from ._registry import MethodEntry

Groups = tuple[int, ...]


class MergingMethod(Method):
    """Groups the experts around the most used ones and stores one weighted average a group.

    Without calibration statistics all experts count as used alike, and weights decide who is similar to whom.

    Parameters
    ----------
    seed
        For whatever is random.
    groups
        A fixed number of groups, whatever the kept fraction.

    Attributes
    ----------
    weighted
        Whether experts weigh in their group's average by how much they are used.
    """

    weighted: ClassVar[bool]
    matrix_type: ClassVar[type[CompressedMatrix]] = DenseMatrix

    def __init__(self, entry: MethodEntry, *, seed: int = 0, groups: int | None = None) -> None:
        super().__init__(entry, seed=seed)
        self.groups = groups
        self._known: tuple[weakref.ref[torch.Tensor], torch.Tensor] | None = None

    def align(self, stack: ExpertStack) -> torch.Tensor:
        """Return the (N, p_I) order of each expert's neurons in which it is averaged: as they stand by default."""
        return torch.arange(stack.intermediate_size).repeat(stack.num_experts, 1)

    def orders(self, stack: ExpertStack) -> torch.Tensor:
        """Return what :meth:`align` finds, once for a stack however often it is asked for."""
        if self._known is None or self._known[0]() is not stack.weights:
            self._known = (weakref.ref(stack.weights), self.align(stack))
        return self._known[1]

    def group_count(self, num_experts: int, keep: float) -> int:
        """Return how many experts are left of N.

        Raises
        ------
        UsageError
            If the fixed number of groups is not from 1 to N.
        """
        count = max(1, round(KEEP.validate(keep) * num_experts)) if self.groups is None else self.groups
        if not 1 <= count <= num_experts:
            raise UsageError(f"{count} groups of {num_experts} experts, expected a number from 1 to {num_experts}")
        return count

    def counts(self, shape: LayerShape, keep: float) -> tuple[int, ...]:
        """Return the neurons of each group's expert: all of them."""
        return (shape.intermediate_size,) * self.group_count(shape.num_experts, keep)

    def compress_exact(
        self, stack: ExpertStack, keep: float, center: Center | None, statistics: Statistics | None
    ) -> Compressed:
        """Merge the experts into round(keep N) groups, at least one."""
        count = self.group_count(stack.num_experts, keep)
        orders = self.orders(stack)
        usage, products = _usage(stack, statistics), inner_products(stack, orders)
        groups = group_experts(_affinity(products, statistics), usage, count)
        merged = self._merged(stack, groups, self._shares(groups, usage))
        return Compressed(map(DenseMatrix, merged), groups=groups, permutations=orders)

    def errors(
        self,
        stack: ExpertStack,
        keeps: Sequence[float],
        center: Center | None = None,
        *,
        statistics: Statistics | None = None,
        storage: Storage = DEFAULT_STORAGE,
    ) -> list[float]:
        """Return the approximation error at every keep, from the inner products of the aligned experts."""
        counts = [self.group_count(stack.num_experts, keep) for keep in keeps]
        usage, products = _usage(stack, statistics), inner_products(stack, self.orders(stack))
        affinity = _affinity(products, statistics)
        by_count = dict[int, float]()
        for count in set(counts):
            groups = group_experts(affinity, usage, count)
            if storage.encoding.lossless:
                by_count[count] = self._error(products, groups, usage)
            else:
                by_count[count] = self._stored_error(stack, groups, usage, storage)
        return [by_count[count] for count in counts]

    def _merged(self, stack: ExpertStack, groups: Groups, shares: torch.Tensor) -> Iterator[torch.Tensor]:
        """Yield each group's (p_I, D) weighted average of its aligned experts."""
        orders = self.orders(stack)
        for group in range(max(groups) + 1):
            merged = torch.zeros_like(stack.weights[0])
            for k in (k for k, expert_group in enumerate(groups) if expert_group == group):
                merged.add_(stack.weights[k][orders[k].to(merged.device)], alpha=float(shares[k]))
            yield merged

    def _stored_error(self, stack: ExpertStack, groups: Groups, usage: torch.Tensor, storage: Storage) -> float:
        """(1/N) sum_k ||W_k[T_k] - M_k||^2 from the merged experts as they are stored."""
        orders, total = self.orders(stack), 0.0
        for group, merged in enumerate(self._merged(stack, groups, self._shares(groups, usage))):
            stored = roundtrip(merged, storage.encoding)
            members = [k for k, expert_group in enumerate(groups) if expert_group == group]
            total += sum(float(matched_distances(stored, stack.weights[k], orders[k]).sum()) for k in members)
        return total / stack.num_experts

    def _shares(self, groups: Groups, usage: torch.Tensor) -> torch.Tensor:
        """(N,) weight of every expert in its group's average; a group that no token reaches is averaged evenly."""
        weights = usage if self.weighted else torch.ones_like(usage)
        index = torch.tensor(groups)
        totals = torch.zeros_like(weights).index_add(0, index, weights)
        sizes = torch.zeros_like(weights).index_add(0, index, torch.ones_like(weights))
        return torch.where(totals[index] > 0, weights / totals[index].clamp(min=1e-300), 1 / sizes[index])

    def _error(self, products: torch.Tensor, groups: Groups, usage: torch.Tensor) -> float:
        """(1/N) sum_k ||W_k - sum_j a_j W_j||^2 over the groups, from the products <W_i, W_j>."""
        index = torch.tensor(groups)
        mixing = (index[:, None] == index).double() * self._shares(groups, usage)
        left = torch.eye(len(groups), dtype=torch.float64) - mixing
        return float(((left @ products) * left).sum(1).clamp(min=0).mean())


def inner_products(stack: ExpertStack, orders: torch.Tensor) -> torch.Tensor:
    """(N, N) float64 inner products <W_i[T_i], W_j[T_j]> of the aligned experts, on the CPU."""
    total = torch.zeros(stack.num_experts, stack.num_experts, dtype=torch.float64)
    for rows in orders.to(stack.weights.device).split(64, dim=1):
        aligned = torch.stack([weights[order] for weights, order in zip(stack.weights, rows, strict=True)])
        flat = aligned.flatten(1).double()
        total += (flat @ flat.T).cpu()
    return total


def group_experts(affinity: torch.Tensor, usage: torch.Tensor, count: int) -> Groups:
    """Put every expert into the group of the dominant expert that it is most similar to.

    Parameters
    ----------
    affinity
        (N, N) similarity.
    usage
        (N,) importance: the `count` most used experts are dominant, the first ones where all are alike.
    count
        How many groups.

    References
    ----------
    M-SMoE, arXiv 2310.01334, section 3.2.
    """
    dominant = usage.argsort(descending=True, stable=True)[:count].sort().values
    groups = affinity[:, dominant].argmax(dim=1)
    groups[dominant] = torch.arange(count)
    return tuple(groups.tolist())


def _usage(stack: ExpertStack, statistics: Statistics | None) -> torch.Tensor:
    if statistics is None:
        return torch.full((stack.num_experts,), 1 / stack.num_experts, dtype=torch.float64)
    return statistics.usage.double().cpu()


def _affinity(products: torch.Tensor, statistics: Statistics | None) -> torch.Tensor:
    """Similarity of the experts: of their router logits where there is calibration text, else of their weights."""
    if statistics is not None and statistics.affinity is not None:
        return statistics.affinity.double().cpu()
    norms = products.diagonal().clamp(min=0).sqrt().clamp(min=1e-300)
    return products / norms / norms[:, None]
