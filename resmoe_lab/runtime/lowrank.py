"""Low-rank residuals: thin factors, which are multiplied as they are stored."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..experts import Block
from ..store.encoding import Encoded
from .residuals import Residual, Rows, part, places, slices

#: More experts in one batch gain nothing, and what has to be widened from 16 or 8 bits for them takes room.
_AT_ONCE = 16


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

    takes_vectors = True

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
        left, right, scale = self._own(rows, block, dtype)
        rank = (rows.stop - rows.start) // count
        left, right = (side.unflatten(0, (count, rank)) for side in (left, right))
        return left, right, None if scale is None else scale.view(count, 1, rank)

    def _own(self, rows: slice, block: int, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor | None]:
        """(r, p_I) left and (r, p) right factors of some ranks, and their (r,) scale."""
        left, right = self.left[block if len(self.left) > 1 else 0], self.right[block]
        assert isinstance(left, Rows)
        assert isinstance(right, Rows)
        scales = [side.scale[rows].to(dtype) for side in (left, right) if side.scale is not None]
        scale = None if not scales else scales[0] if len(scales) == 1 else scales[0] * scales[1]
        return left.unscaled(rows, dtype), right.unscaled(rows, dtype), scale

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

    def enter_vector(self, experts: Sequence[int], hidden: Tensor, common: Sequence[Tensor] | None) -> list[Tensor]:
        """Each ``(hidden R^T) L^T``, on top of the center's product."""
        products = []
        for block in range(len(self.entering)):
            added = hidden.new_empty(len(experts), self.num_neurons)
            for row, expert in zip(added, experts, strict=True):
                left, right, scale = self._own(self._rows[expert], block, hidden.dtype)
                inner = _scaled(torch.mv(right, hidden), scale)
                if common is None:
                    torch.mv(left.T, inner, out=row)
                else:
                    torch.addmv(common[block], left.T, inner, out=row)
            products.append(added)
        return products

    def leave_vector(self, experts: Sequence[int], neurons: Tensor, total: Tensor) -> None:
        """Add each ``(neurons L) R``."""
        for row, expert in zip(neurons, experts, strict=True):
            left, right, scale = self._own(self._rows[expert], len(self.entering), neurons.dtype)
            total.addmv_(right.T, _scaled(torch.mv(left, row), scale))

    def add_to(self, matrix: Tensor, expert: int) -> None:
        """Add the product of each block's factors."""
        for number, block in enumerate([*self.entering, self.leaving]):
            left, right, scale = self._factors(slice(expert, expert + 1), number, matrix.dtype)
            matrix[:, block.start : block.stop].addmm_(_scaled(left.mT, scale)[0], right[0])


def _scaled(values: Tensor, scale: Tensor | None) -> Tensor:
    return values if scale is None else values * scale


def _add_product(product: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Return ``product + a b`` of batches, in place where no gradient is wanted."""
    if torch.is_grad_enabled() or not product.dtype == a.dtype == b.dtype:
        return product + a @ b
    return product.baddbmm_(a, b)
