"""What tells an expert from the center, in the form it is stored in: how it is multiplied, and how it is restored.

Everything is in the layout of the design matrix: rows are neurons, columns are [W1, W3, W2^T]. `enter` and `leave` are
the products on the way into the hidden layer and out of it. A module's own tensors are what is stored, and no more.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import ClassVar

import torch
from torch import Tensor, nn

from .._core.errors import UsageError
from ..experts import Block
from ..store.encoding import Encoded

#: More experts in one batch gain nothing, and what has to be widened from 16 or 8 bits for them takes room.
_AT_ONCE = 16


class Rows(nn.Module):
    """The stored rows of all experts, one expert's after another's.

    Parameters
    ----------
    encoded
        All rows.
    """

    def __init__(self, encoded: Encoded) -> None:
        super().__init__()
        self.data = nn.Parameter(encoded.data, requires_grad=False)
        self.scale: nn.Parameter | None
        scale = None if encoded.scale is None else nn.Parameter(encoded.scale, requires_grad=False)
        self.register_parameter("scale", scale)

    def read(self, rows: slice, dtype: torch.dtype) -> Tensor:
        """Return some rows as floats: a view where they are stored so."""
        values = self.unscaled(rows, dtype)
        return values if self.scale is None else values * self.scale[rows, None].to(dtype)

    def take(self, rows: Tensor | slice) -> Encoded:
        """Copy some rows as they are stored, so that the others' memory can go."""
        scale = None if self.scale is None else self.scale[rows].detach().clone()
        return Encoded(self.data[rows].detach().clone(), scale)

    def unscaled(self, rows: slice, dtype: torch.dtype) -> Tensor:
        """Return some rows without their scales."""
        return self.data[rows].to(dtype)


class Residual(nn.Module):
    """The residuals of the experts of one layer.

    Parameters
    ----------
    blocks
        What the columns are; the last one leaves, the others enter.
    counts
        For each expert its rank, rows or values, whichever the form has.
    num_neurons
        p_I.

    Attributes
    ----------
    form
        What the form is called.
    multiplies
        Whether it can be multiplied as it is stored.
    most_at_once
        How many experts can be multiplied in one batch of products.
    """

    form: str
    multiplies: ClassVar[bool] = True
    most_at_once: int = 1

    def __init__(self, blocks: Sequence[Block], *, counts: Sequence[int], num_neurons: int) -> None:
        super().__init__()
        self.counts = tuple(counts)
        self.num_neurons = num_neurons
        self.width = blocks[-1].stop
        *self.entering, self.leaving = blocks

    @property
    def blocks(self) -> list[Block]:
        """All column blocks."""
        return [*self.entering, self.leaving]

    def some_neurons(self, rank: int, world: int) -> Residual:
        """Copy what process `rank` of `world` holds where each has a part of every expert's neurons."""
        raise NotImplementedError

    def some_experts(self, experts: Sequence[int]) -> Residual:
        """Copy the residuals of some experts."""
        raise NotImplementedError

    def enter(self, experts: slice, hidden: Tensor, products: Sequence[Tensor] | None) -> list[Tensor]:
        """Add the residuals' share to the center's products.

        Parameters
        ----------
        experts
            E experts that stand side by side, at most :attr:`most_at_once`.
        hidden
            (E, n, p) tokens of each.
        products
            One (E, n, p_I) tensor for each entering block, which may be overwritten where no gradient is wanted; None
            where there is no center, and the share is all there is.
        """
        raise NotImplementedError

    def leave(self, experts: slice, neurons: Tensor) -> Tensor:
        """Return the residuals' share of the output, (E, n, p), of the (E, n, p_I) activated neurons."""
        raise NotImplementedError

    def restore(self, matrix: Tensor, center: Tensor | None, expert: int) -> None:
        """Fill a (p_I, D) matrix with the (B, p_I, p) center, or with zeros, and the residual on top of it."""
        if center is None:
            matrix.zero_()
        else:
            matrix.unflatten(1, (len(center), -1)).copy_(center.transpose(0, 1))
        self.add_to(matrix, expert)

    def restore_all(self, matrices: Sequence[Tensor], center: Tensor | None, experts: Sequence[int]) -> None:
        """Fill one matrix for each of some experts, as :meth:`restore` does."""
        for matrix, expert in zip(matrices, experts, strict=True):
            self.restore(matrix, center, expert)

    def add_to(self, matrix: Tensor, expert: int) -> None:
        """Add the (p_I, D) residual to a matrix, in place."""
        raise NotImplementedError


class LowRankResidual(Residual):
    """Thin factors, one pair for each block or one for all of them.

    Parameters
    ----------
    blocks
        What the columns are.
    left, right
        For each block the (sum of the experts' ranks, p_I) and (sum of the experts' ranks, p) factors. With one `left`
        for all blocks the factorisation is joint.
    ranks
        Rank of each expert.
    """

    def __init__(
        self, blocks: Sequence[Block], left: Sequence[Encoded], right: Sequence[Encoded], *, ranks: Sequence[int]
    ) -> None:
        super().__init__(blocks, counts=ranks, num_neurons=left[0].data.shape[1])
        self.form = "lowrank-joint" if len(left) == 1 else "lowrank-separate"
        self.left = nn.ModuleList(map(Rows, left))
        self.right = nn.ModuleList(map(Rows, right))
        self.most_at_once = _AT_ONCE if len(set(ranks)) == 1 else 1
        self._rows = slices(ranks)

    def some_neurons(self, rank: int, world: int) -> Residual:
        """Copy a part of the left factors' columns, and all of the right factors."""
        neurons = part(self.num_neurons, rank, world)
        left = [rows.take(slice(None)) for rows in self.sides(self.left)]
        fewer = [Encoded(side.data[:, neurons].clone(), side.scale) for side in left]
        right = [rows.take(slice(None)) for rows in self.sides(self.right)]
        return LowRankResidual(self.blocks, fewer, right, ranks=self.counts)

    def some_experts(self, experts: Sequence[int]) -> Residual:
        """Copy the factors of some experts."""
        rows, ranks = places(self.counts, experts), [self.counts[expert] for expert in experts]
        left, right = ([side.take(rows) for side in self.sides(sides)] for sides in (self.left, self.right))
        return LowRankResidual(self.blocks, left, right, ranks=ranks)

    @staticmethod
    def sides(modules: nn.ModuleList) -> list[Rows]:
        """The factors of each block."""
        return [module for module in modules if isinstance(module, Rows)]

    def _factors(self, experts: slice, block: int, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor | None]:
        """(E, r, p_I) left and (E, r, p) right factors of some experts, and the (E, 1, r) scale of their ranks."""
        count = experts.stop - experts.start
        rows = slice(self._rows[experts.start].start, self._rows[experts.stop - 1].stop)
        left, right = self.left[block if len(self.left) > 1 else 0], self.right[block]
        assert isinstance(left, Rows)
        assert isinstance(right, Rows)
        rank = (rows.stop - rows.start) // count
        factors = [side.unscaled(rows, dtype).unflatten(0, (count, rank)) for side in (left, right)]
        scales = [side.scale[rows].to(dtype).view(count, 1, rank) for side in (left, right) if side.scale is not None]
        scale = None if not scales else scales[0] if len(scales) == 1 else scales[0] * scales[1]
        return *factors, scale

    def enter(self, experts: slice, hidden: Tensor, products: Sequence[Tensor] | None) -> list[Tensor]:
        """Add ``(hidden R^T) L^T`` to each product; scales are multiplied into what lies between."""
        added = []
        for block in range(len(self.entering)):
            left, right, scale = self._factors(experts, block, hidden.dtype)
            inner = _scaled(torch.bmm(hidden, right.mT), scale)
            added.append(torch.bmm(inner, left) if products is None else _add_product(products[block], inner, left))
        return added

    def leave(self, experts: slice, neurons: Tensor) -> Tensor:
        """Return ``(neurons L) R``."""
        left, right, scale = self._factors(experts, len(self.entering), neurons.dtype)
        return torch.bmm(_scaled(torch.bmm(neurons, left.mT), scale), right)

    def add_to(self, matrix: Tensor, expert: int) -> None:
        """Add the product of each block's factors."""
        for number, block in enumerate([*self.entering, self.leaving]):
            left, right, scale = self._factors(slice(expert, expert + 1), number, matrix.dtype)
            matrix[:, block.start : block.stop].addmm_(_scaled(left.mT, scale)[0], right[0])


class RowsResidual(Residual):
    """Some whole neurons of each expert.

    Parameters
    ----------
    blocks
        What the columns are.
    values
        (sum of the experts' counts, D) kept rows.
    neurons
        (sum of the experts' counts,) int32: which neuron each row is.
    counts
        Kept rows of each expert.
    num_neurons
        p_I.
    """

    form = "rows"

    def __init__(
        self, blocks: Sequence[Block], values: Encoded, neurons: Tensor, *, counts: Sequence[int], num_neurons: int
    ) -> None:
        super().__init__(blocks, counts=counts, num_neurons=num_neurons)
        self.values = Rows(values)
        self.neurons = nn.Parameter(neurons, requires_grad=False)
        self._rows = slices(counts)

    def some_neurons(self, rank: int, world: int) -> Residual:
        """Copy the kept rows of a part of the neurons."""
        neurons = part(self.num_neurons, rank, world)
        held = (self.neurons >= neurons.start) & (self.neurons < neurons.stop)
        counts = [int(own.sum()) for own in held.split(list(self.counts))]
        numbers = self.neurons[held].detach() - neurons.start
        size = neurons.stop - neurons.start
        return RowsResidual(self.blocks, self.values.take(held), numbers, counts=counts, num_neurons=size)

    def some_experts(self, experts: Sequence[int]) -> Residual:
        """Copy the kept rows of some experts."""
        rows, counts = places(self.counts, experts), [self.counts[expert] for expert in experts]
        numbers = self.neurons[rows].detach().clone()
        values = self.values.take(rows)
        return RowsResidual(self.blocks, values, numbers, counts=counts, num_neurons=self.num_neurons)

    def enter(self, experts: slice, hidden: Tensor, products: Sequence[Tensor] | None) -> list[Tensor]:
        """Add the kept rows' products at their neurons."""
        rows = self._rows[experts.start]
        values, neurons = self.values.read(rows, hidden.dtype), self.neurons[rows]
        if products is None:
            products = [hidden.new_zeros(*hidden.shape[:2], self.num_neurons)] * len(self.entering)
        return [
            product.index_add(2, neurons, hidden @ values[:, block.start : block.stop].T)
            for block, product in zip(self.entering, products, strict=True)
        ]

    def leave(self, experts: slice, neurons: Tensor) -> Tensor:
        """Return the kept neurons' share."""
        rows = self._rows[experts.start]
        values = self.values.read(rows, neurons.dtype)
        return neurons[:, :, self.neurons[rows]] @ values[:, self.leaving.start : self.leaving.stop]

    def add_to(self, matrix: Tensor, expert: int) -> None:
        """Add the kept rows in their places."""
        rows = self._rows[expert]
        matrix.index_add_(0, self.neurons[rows], self.values.read(rows, matrix.dtype))


class WholeExperts(Residual):
    """Experts that stand for themselves, of as many neurons as each has: there is no center beside them.

    Parameters
    ----------
    blocks
        What the columns are.
    values
        (sum of the experts' neurons, D).
    counts
        Neurons of each expert.
    """

    form = "whole"

    def __init__(self, blocks: Sequence[Block], values: Encoded, *, counts: Sequence[int]) -> None:
        super().__init__(blocks, counts=counts, num_neurons=max(counts))
        self.values = Rows(values)
        self._rows = slices(counts)

    def some_neurons(self, rank: int, world: int) -> Residual:
        """Copy a part of each expert's own neurons, of which each may have another number."""
        parts = [part(count, rank, world) for count in self.counts]
        starts = [rows.start for rows in self._rows]
        own = [torch.arange(start + own.start, start + own.stop) for start, own in zip(starts, parts, strict=True)]
        values = self.values.take(torch.cat(own))
        return WholeExperts(self.blocks, values, counts=[own.stop - own.start for own in parts])

    def some_experts(self, experts: Sequence[int]) -> Residual:
        """Copy some experts."""
        values = self.values.take(places(self.counts, experts))
        return WholeExperts(self.blocks, values, counts=[self.counts[expert] for expert in experts])

    def enter(self, experts: slice, hidden: Tensor, products: Sequence[Tensor] | None) -> list[Tensor]:
        """Return the expert's own products."""
        values = self.values.read(self._rows[experts.start], hidden.dtype)
        return [hidden @ values[:, block.start : block.stop].T for block in self.entering]

    def leave(self, experts: slice, neurons: Tensor) -> Tensor:
        """Return the expert's output."""
        values = self.values.read(self._rows[experts.start], neurons.dtype)
        return neurons @ values[:, self.leaving.start : self.leaving.stop]

    def add_to(self, matrix: Tensor, expert: int) -> None:
        """Add the expert; where it has fewer neurons than the largest, the others stay as they are."""
        rows = self._rows[expert]
        matrix[: rows.stop - rows.start].add_(self.values.read(rows, matrix.dtype))


def slices(counts: Sequence[int]) -> list[slice]:
    """Where each expert's part begins and ends."""
    ends = list(accumulate(counts))
    return [slice(end - count, end) for end, count in zip(ends, counts, strict=True)]


def _scaled(values: Tensor, scale: Tensor | None) -> Tensor:
    return values if scale is None else values * scale


def _add_product(product: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Return ``product + a b`` of batches, in place where no gradient is wanted."""
    if torch.is_grad_enabled() or not product.dtype == a.dtype == b.dtype:
        return product + a @ b
    return product.baddbmm_(a, b)


def part(count: int, rank: int, world: int) -> slice:
    """Which of `count` things the process `rank` of `world` has: as even as can be.

    Raises
    ------
    UsageError
        If there are fewer things than processes.
    """
    if count < world:
        raise UsageError(f"{count} cannot be shared by {world} processes: start no more than {count}")
    return slice(count * rank // world, count * (rank + 1) // world)


def places(counts: Sequence[int], experts: Sequence[int]) -> Tensor:
    """Where the rows or values of some experts are, among those of all."""
    spans = slices(counts)
    return torch.cat([torch.arange(spans[expert].start, spans[expert].stop) for expert in experts])
