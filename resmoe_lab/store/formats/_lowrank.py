"""What both low-rank formats share: thin factors, which are multiplied as they are stored."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import ClassVar, Self

import torch
from torch import Tensor, nn

from ..encodings import Encoded, TensorSpec, cut_encoding, encode_rows
from ..layout import Layout
from ._base import Format
from ._shards import expert_index, expert_slices, shard_range
from ._stored import StoredRows, prefixed, stored_rows

#: More experts in one batch gain nothing, and what has to be widened from 16 or 8 bits for them takes memory.
_BATCH_EXPERTS = 16


class LowRankFormat(Format):
    """Thin factors: ``left`` (sum of the ranks, p_I), one or one a block, and ``right`` (sum of the ranks, p) a block.

    The rows of the factors are encoded, so that each singular direction has a scale of its own. The counts of the
    layout are the ranks.

    Attributes
    ----------
    joint
        Whether all blocks share one left factor.
    """

    values_item = "factors"
    takes_vectors = True
    joint: ClassVar[bool]

    def __init__(self, layout: Layout, tensors: Mapping[str, Tensor]) -> None:
        super().__init__(layout, tensors)
        encoding, lefts = layout.encoding, range(1 if self.joint else len(layout.blocks))
        self.left = nn.ModuleList(
            stored_rows(f"left.{block}", tensors, encoding, columns=layout.neurons) for block in lefts
        )
        self.right = nn.ModuleList(
            stored_rows(f"right.{number}", tensors, encoding, columns=block.stop - block.start)
            for number, block in enumerate(layout.columns)
        )
        self.max_batch_experts = _BATCH_EXPERTS if len(set(self.counts)) == 1 else 1
        self._slices = expert_slices(self.counts)

    @classmethod
    def tensors(cls, layout: Layout) -> dict[str, TensorSpec]:
        """Factors and their scales."""
        encoding, ranks = layout.encoding, sum(layout.counts)
        specs = dict[str, TensorSpec]()
        for block in range(1 if cls.joint else len(layout.blocks)):
            specs |= prefixed(f"left.{block}", encoding.encoder.specs(encoding, ranks, layout.neurons))
        for block, columns in enumerate(layout.columns):
            width = columns.stop - columns.start
            specs |= prefixed(f"right.{block}", encoding.encoder.specs(encoding, ranks, width))
        return specs

    @classmethod
    def pack_factors(cls, factors: Iterable[tuple[Sequence[Tensor], Sequence[Tensor]]], layout: Layout) -> Self:
        """Encode the (p_I, k) left factors and the (k, p) right factors of each block, expert by expert."""
        counts, encoded = list[int](), dict[str, list[Encoded]]()
        for left, right in factors:
            counts.append(len(right[0]))
            for side, sides in (("left", [factor.T for factor in left]), ("right", right)):
                for block, rows in enumerate(sides):
                    encoded.setdefault(f"{side}.{block}", []).append(encode_rows(rows, layout.encoding))
        tensors = dict[str, Tensor]()
        for name, parts in encoded.items():
            tensors |= prefixed(name, Encoded.join(parts).parts)
        return cls(layout.model_copy(update={"counts": tuple(counts)}), tensors)

    @classmethod
    def multiplications(cls, layout: Layout) -> list[int]:
        """A left product for each block, shared factor or not, and a right one."""
        size = len(layout.blocks) * layout.neurons + layout.width
        return [rank * size for rank in layout.counts]

    def project_in(self, experts: slice, hidden: Tensor, products: Sequence[Tensor] | None) -> list[Tensor]:
        """Add ``(hidden R^T) L^T`` to each product; scales are multiplied into what lies between."""
        added = []
        for block in range(len(self.in_blocks)):
            left, right, scale = self._batch_factors(experts, block, hidden.dtype)
            inner = _scaled(torch.bmm(hidden, right.mT), scale)
            added.append(torch.bmm(inner, left) if products is None else _add_product(products[block], inner, left))
        return added

    def project_out(self, experts: slice, neurons: Tensor) -> Tensor:
        """Return ``(neurons L) R``."""
        left, right, scale = self._batch_factors(experts, len(self.in_blocks), neurons.dtype)
        return torch.bmm(_scaled(torch.bmm(neurons, left.mT), scale), right)

    def project_in_token(
        self, experts: Sequence[int], hidden: Tensor, center_products: Sequence[Tensor] | None
    ) -> list[Tensor]:
        """Return each ``(hidden R^T) L^T``, on top of the center's product."""
        products = []
        for block in range(len(self.in_blocks)):
            added = hidden.new_empty(len(experts), self.num_neurons)
            for row, expert in zip(added, experts, strict=True):
                left, right, scale = self.factors(self._slices[expert], block, hidden.dtype)
                inner = _scaled(torch.mv(right, hidden), scale)
                if center_products is None:
                    torch.mv(left.T, inner, out=row)
                else:
                    torch.addmv(center_products[block], left.T, inner, out=row)
            products.append(added)
        return products

    def project_out_token(self, experts: Sequence[int], neurons: Tensor, output: Tensor) -> None:
        """Add each ``(neurons L) R``."""
        for row, expert in zip(neurons, experts, strict=True):
            left, right, scale = self.factors(self._slices[expert], len(self.in_blocks), neurons.dtype)
            output.addmv_(right.T, _scaled(torch.mv(left, row), scale))

    def add_to(self, matrix: Tensor, expert: int) -> None:
        """Add the product of each block's factors."""
        for number, block in enumerate(self.layout.columns):
            left, right, scale = self._batch_factors(slice(expert, expert + 1), number, matrix.dtype)
            matrix[:, block.start : block.stop].addmm_(_scaled(left.mT, scale)[0], right[0])

    def shard_neurons(self, rank: int, world_size: int) -> LowRankFormat:
        """Copy a part of the left factors' columns, and all of the right factors."""
        neurons = shard_range(self.num_neurons, rank, world_size)
        old, encoding = self.layout.encoding, cut_encoding(self.layout.encoding, neurons)
        tensors = dict[str, Tensor]()
        for side, modules in (("left", self.left), ("right", self.right)):
            for block, module in enumerate(modules):
                assert isinstance(module, StoredRows)
                assert module.columns is not None
                width, parts = module.columns, module.take(slice(None)).parts
                columns = neurons if side == "left" else slice(0, width)
                cut = old.encoder.cut(old, parts, columns, width=width, group=encoding.group)
                tensors |= prefixed(f"{side}.{block}", cut)
        update = {"neurons": neurons.stop - neurons.start, "encoding": encoding}
        return type(self)(self.layout.model_copy(update=update), tensors)

    def shard_experts(self, experts: Sequence[int]) -> LowRankFormat:
        """Copy the factors of some experts."""
        counts = tuple(self.counts[expert] for expert in experts)
        rows = expert_index(self.counts, experts)
        return type(self)(self.layout.model_copy(update={"counts": counts}), self._take(rows))

    def _take(self, rows: Tensor | slice) -> dict[str, Tensor]:
        tensors = dict[str, Tensor]()
        for side, modules in (("left", self.left), ("right", self.right)):
            for block, module in enumerate(modules):
                assert isinstance(module, StoredRows)
                tensors |= prefixed(f"{side}.{block}", module.take(rows).parts)
        return tensors

    def _batch_factors(self, experts: slice, block: int, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor | None]:
        """(E, r, p_I) left and (E, r, p) right factors of some experts, and the (E, 1, r) scale of their ranks."""
        count = experts.stop - experts.start
        rows = slice(self._slices[experts.start].start, self._slices[experts.stop - 1].stop)
        left, right, scale = self.factors(rows, block, dtype)
        rank = (rows.stop - rows.start) // count
        left, right = (side.unflatten(0, (count, rank)) for side in (left, right))
        return left, right, None if scale is None else scale.view(count, 1, rank)

    def factors(self, rows: slice, block: int, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor | None]:
        """Return the (r, p_I) left and (r, p) right factors of some ranks, and their (r,) scale."""
        left, right = self.left[0 if self.joint else block], self.right[block]
        assert isinstance(left, StoredRows)
        assert isinstance(right, StoredRows)
        scales = [side.row_scale[rows].to(dtype) for side in (left, right) if side.row_scale is not None]
        scale = None if not scales else scales[0] if len(scales) == 1 else scales[0] * scales[1]
        return left.read_unscaled(rows, dtype), right.read_unscaled(rows, dtype), scale


def _scaled(values: Tensor, scale: Tensor | None) -> Tensor:
    return values if scale is None else values * scale


def _add_product(product: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Return ``product + a b`` of batches, in place where no gradient is wanted."""
    if torch.is_grad_enabled() or not product.dtype == a.dtype == b.dtype:
        return product + a @ b
    return product.baddbmm_(a, b)
