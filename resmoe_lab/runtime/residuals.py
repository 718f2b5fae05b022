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
from ..store.sparse import put_center


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
    takes_vectors
        Whether it has a way of its own for a single token.
    """

    form: str
    multiplies: ClassVar[bool] = True
    takes_vectors: ClassVar[bool] = False
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

    def enter_vector(self, experts: Sequence[int], hidden: Tensor, common: Sequence[Tensor] | None) -> list[Tensor]:
        """:meth:`enter` for one (p,) token: for each entering block the (E, p_I) products of some experts.

        `common` has the (p_I,) product of the center for each block; it is not overwritten.
        """
        raise NotImplementedError

    def leave_vector(self, experts: Sequence[int], neurons: Tensor, total: Tensor) -> None:
        """Add :meth:`leave` of the (E, p_I) weighted neurons of one token to its (p,) output."""
        raise NotImplementedError

    def restore(self, matrix: Tensor, center: Tensor | None, expert: int) -> None:
        """Fill a (p_I, D) matrix with the (B, p_I, p) center, or with zeros, and the residual on top of it."""
        put_center(matrix, center)
        self.add_to(matrix, expert)

    def add_to(self, matrix: Tensor, expert: int) -> None:
        """Add the (p_I, D) residual to a matrix, in place."""
        raise NotImplementedError


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
