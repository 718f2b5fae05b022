"""What tells an expert from the center, in the form it is stored in: how it is multiplied, and how it is restored.

Everything is in the layout of the design matrix: rows are neurons, columns are [W1, W3, W2^T]. `enter` and `leave` are
the products on the way into the hidden layer and out of it. A module's own tensors are what is stored, and no more.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import accumulate
from typing import ClassVar

import torch
from torch import Tensor, nn

from ..experts import Block
from ..store.encoding import Encoded
from ..store.sparse import mask_starts, put_by_columns, put_by_mask

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
        self._rows = _slices(ranks)

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
        self._rows = _slices(counts)

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
        self._rows = _slices(counts)

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
        self._places = _slices(counts)

    def restore_all(self, matrices: Sequence[Tensor], center: Tensor | None, experts: Sequence[int]) -> None:
        """Fill one matrix for each of some experts; on the CPU several at once, by threads that sleep in between.

        The threads of a parallel loop would keep the processor busy for a while after their work, when torch needs it.
        """
        lanes = min(len(experts), torch.get_num_threads())
        if lanes < 2 or matrices[0].device.type != "cpu" or torch.is_grad_enabled():
            super().restore_all(matrices, center, experts)
            return

        def fill(lane: int) -> None:
            super(SparseResidual, self).restore_all(matrices[lane::lanes], center, experts[lane::lanes])

        others = [_threads().submit(fill, lane) for lane in range(1, lanes)]
        fill(0)
        for other in others:
            other.result()

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

    def restore(self, matrix: Tensor, center: Tensor | None, expert: int) -> None:
        """Put the values at their columns on top of the center, in one pass."""
        values, scale = self._stored(expert)
        columns = self.columns[self._places[expert]]
        put_by_columns(matrix, center, columns, self.starts[expert], values=values, scale=scale)


@cache
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(torch.get_num_threads(), thread_name_prefix="resmoe-restore")


def _slices(counts: Sequence[int]) -> list[slice]:
    """Where each expert's part begins and ends."""
    ends = list(accumulate(counts))
    return [slice(end - count, end) for end, count in zip(ends, counts, strict=True)]


def _scaled(values: Tensor, scale: Tensor | None) -> Tensor:
    return values if scale is None else values * scale


def _add_product(product: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Return ``product + a b`` of batches, in place where no gradient is wanted."""
    if torch.is_grad_enabled() or product.dtype != a.dtype:
        return product + a @ b
    return product.baddbmm_(a, b)
