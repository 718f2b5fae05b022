"""Residuals of single entries: too scattered to be multiplied fast, so experts are restored from them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..experts import Block
from ..store.encoding import Encoded
from ..store.sparse import mask_starts, put_by_columns, put_by_mask
from .residuals import Residual, Rows, part, places, slices


class SparseResidual(Residual):
    """Single entries of each expert's matrix: too scattered to be multiplied fast, so it is only restored.

    Parameters
    ----------
    blocks
        What the columns are.
    values
        The values of all experts in row-major order; their scales, if they have any, by expert and row.
    counts
        Values of each expert.
    num_neurons
        p_I.
    """

    multiplies = False

    def __init__(self, blocks: Sequence[Block], values: Encoded, *, counts: Sequence[int], num_neurons: int) -> None:
        super().__init__(blocks, counts=counts, num_neurons=num_neurons)
        self.values = Rows(values)
        self._places = slices(counts)

    def _values_of(self, index: Tensor, rows: tuple[slice | list[int], slice]) -> Encoded:
        """Copy some values, with the scales of the experts and rows that they belong to."""
        scale: Tensor | None = self.values.scale
        if scale is not None:
            scale = scale.detach().view(len(self.counts), self.num_neurons)[rows].flatten().clone()
        return Encoded(self.values.data[index].detach().clone(), scale)

    def _of_neurons(self, starts: Tensor, neurons: slice) -> tuple[Tensor, list[int]]:
        """Where the values of some rows of every expert are, and how many each has."""
        first, last = starts[:, neurons.start].tolist(), starts[:, neurons.stop].tolist()
        begins = [own.start for own in self._places]
        spans = zip(begins, first, last, strict=True)
        index = torch.cat([torch.arange(begin + one, begin + other) for begin, one, other in spans])
        return index, [other - one for one, other in zip(first, last, strict=True)]

    def _stored(self, expert: int) -> tuple[Tensor, Tensor | None]:
        scale = self.values.scale
        rows = slice(expert * self.num_neurons, (expert + 1) * self.num_neurons)
        return self.values.data[self._places[expert]], None if scale is None else scale[rows]


class BitmaskResidual(SparseResidual):
    """One bit for each entry says whether it is kept; further parameter: the (N, p_I, ceil(D / 8)) uint8 `bits`."""

    form = "bitmask"

    def __init__(self, blocks: Sequence[Block], values: Encoded, bits: Tensor, *, counts: Sequence[int]) -> None:
        super().__init__(blocks, values, counts=counts, num_neurons=bits.shape[1])
        self.bits = nn.Parameter(bits, requires_grad=False)

        self._starts: dict[int, Tensor] = {}

    def some_neurons(self, rank: int, world: int) -> Residual:
        """Copy some rows of every expert's mask, and their values."""
        neurons = part(self.num_neurons, rank, world)
        index, counts = self._of_neurons(torch.stack([mask_starts(bits) for bits in self.bits]), neurons)
        bits = self.bits[:, neurons].detach().clone()
        return BitmaskResidual(self.blocks, self._values_of(index, (slice(None), neurons)), bits, counts=counts)

    def some_experts(self, experts: Sequence[int]) -> Residual:
        """Copy some experts' masks and values."""
        index, counts = places(self.counts, experts), [self.counts[expert] for expert in experts]
        bits = self.bits[list(experts)].detach().clone()
        return BitmaskResidual(self.blocks, self._values_of(index, (list(experts), slice(None))), bits, counts=counts)

    def restore(self, matrix: Tensor, center: Tensor | None, expert: int) -> None:
        """Put the values at the set bits on top of the center, in one pass."""
        if expert not in self._starts:
            self._starts[expert] = mask_starts(self.bits[expert])
        values, scale = self._stored(expert)
        put_by_mask(matrix, center, self.bits[expert], self._starts[expert], values=values, scale=scale)


class CsrResidual(SparseResidual):
    """Every value has its column; further parameters: (N, p_I + 1) int32 `starts`, (values,) uint16 `columns`."""

    form = "csr16"

    def __init__(
        self, blocks: Sequence[Block], values: Encoded, starts: Tensor, columns: Tensor, *, counts: Sequence[int]
    ) -> None:
        super().__init__(blocks, values, counts=counts, num_neurons=starts.shape[1] - 1)
        self.starts = nn.Parameter(starts, requires_grad=False)
        self.columns = nn.Parameter(columns, requires_grad=False)

    def some_neurons(self, rank: int, world: int) -> Residual:
        """Copy some rows of every expert."""
        neurons = part(self.num_neurons, rank, world)
        index, counts = self._of_neurons(self.starts, neurons)
        starts = self.starts[:, neurons.start : neurons.stop + 1].detach()
        values, columns = self._values_of(index, (slice(None), neurons)), self.columns[index].detach().clone()
        return CsrResidual(self.blocks, values, starts - starts[:, :1], columns, counts=counts)

    def some_experts(self, experts: Sequence[int]) -> Residual:
        """Copy some experts' values and columns."""
        index, counts = places(self.counts, experts), [self.counts[expert] for expert in experts]
        values, columns = self._values_of(index, (list(experts), slice(None))), self.columns[index].detach().clone()
        return CsrResidual(self.blocks, values, self.starts[list(experts)].detach().clone(), columns, counts=counts)

    def restore(self, matrix: Tensor, center: Tensor | None, expert: int) -> None:
        """Put the values at their columns on top of the center, in one pass."""
        values, scale = self._stored(expert)
        columns = self.columns[self._places[expert]]
        put_by_columns(matrix, center, columns, self.starts[expert], values=values, scale=scale)
