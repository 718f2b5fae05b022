"""Residuals of which only some whole neurons are kept."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Self

import torch
from torch import Tensor, nn

from ..encodings import Encoded, TensorSpec, encode_rows
from ..layout import Layout
from ..matrices import CompressedMatrix, NeuronSubset
from ._base import FORMATS, Format
from ._shards import expert_index, expert_slices, shard_range
from ._stored import prefixed, stored_rows


@FORMATS.register("rows")
class RowsFormat(Format):
    """Kept rows (sum of the counts, D), and the int32 ``neurons`` that they are."""

    name = "rows"
    stores = (NeuronSubset,)
    residuals_only = True

    def __init__(self, layout: Layout, tensors: Mapping[str, Tensor]) -> None:
        super().__init__(layout, tensors)
        self.values = stored_rows("values", tensors, layout.encoding, columns=layout.width)
        self.neurons = nn.Parameter(tensors["neurons"], requires_grad=False)
        self._slices = expert_slices(self.counts)

    @classmethod
    def tensors(cls, layout: Layout) -> dict[str, TensorSpec]:
        """Rows, their scales, and which neurons they are."""
        rows, encoding = sum(layout.counts), layout.encoding
        values = prefixed("values", encoding.encoder.specs(encoding, rows, layout.width))
        return {**values, "neurons": TensorSpec((rows,), torch.int32)}

    @classmethod
    def pack(cls, matrices: Iterable[CompressedMatrix], layout: Layout) -> Self:
        """Encode the kept rows."""
        counts, encoded, neurons = list[int](), list[Encoded](), list[Tensor]()
        for matrix in matrices:
            assert isinstance(matrix, NeuronSubset)
            counts.append(matrix.count)
            encoded.append(encode_rows(matrix.rows, layout.encoding))
            neurons.append(matrix.places)
        tensors = prefixed("values", Encoded.join(encoded).parts) | {"neurons": torch.cat(neurons).to(torch.int32)}
        return cls(layout.model_copy(update={"counts": tuple(counts)}), tensors)

    @classmethod
    def multiplications(cls, layout: Layout) -> list[int]:
        """One for each entry of a kept row."""
        return [count * layout.width for count in layout.counts]

    def project_in(self, experts: slice, hidden: Tensor, products: Sequence[Tensor] | None) -> list[Tensor]:
        """Add the kept rows' products at their neurons."""
        rows = self._slices[experts.start]
        values, neurons = self.values.read(rows, hidden.dtype), self.neurons[rows]
        if products is None:
            products = [hidden.new_zeros(*hidden.shape[:2], self.num_neurons)] * len(self.in_blocks)
        return [
            product.index_add(2, neurons, hidden @ values[:, block.start : block.stop].T)
            for block, product in zip(self.in_blocks, products, strict=True)
        ]

    def project_out(self, experts: slice, neurons: Tensor) -> Tensor:
        """Return the kept neurons' share."""
        rows = self._slices[experts.start]
        values = self.values.read(rows, neurons.dtype)
        return neurons[:, :, self.neurons[rows]] @ values[:, self.out_block.start : self.out_block.stop]

    def add_to(self, matrix: Tensor, expert: int) -> None:
        """Add the kept rows in their places."""
        rows = self._slices[expert]
        matrix.index_add_(0, self.neurons[rows], self.values.read(rows, matrix.dtype))

    def shard_neurons(self, rank: int, world_size: int) -> RowsFormat:
        """Copy the kept rows of a part of the neurons."""
        part = shard_range(self.num_neurons, rank, world_size)
        inside = (self.neurons >= part.start) & (self.neurons < part.stop)
        counts = tuple(int(expert.sum()) for expert in inside.split(list(self.counts)))
        tensors = prefixed("values", self.values.take(inside).parts)
        tensors["neurons"] = self.neurons[inside].detach() - part.start
        layout = self.layout.model_copy(update={"counts": counts, "neurons": part.stop - part.start})
        return RowsFormat(layout, tensors)

    def shard_experts(self, experts: Sequence[int]) -> RowsFormat:
        """Copy the kept rows of some experts."""
        rows, counts = expert_index(self.counts, experts), tuple(self.counts[expert] for expert in experts)
        tensors = prefixed("values", self.values.take(rows).parts) | {"neurons": self.neurons[rows].detach().clone()}
        return RowsFormat(self.layout.model_copy(update={"counts": counts}), tensors)
