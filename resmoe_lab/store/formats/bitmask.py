"""Sparse experts, one bit for each entry that says whether it is kept."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Self

import torch
from torch import Tensor, nn

from ..encodings import TensorSpec
from ..layout import Layout
from ..matrices import CompressedMatrix, SparseMatrix
from ..scatter import mask_starts, put_by_mask
from ._base import FORMATS
from ._sparse import SparseFormat


@FORMATS.register("bitmask")
class BitmaskFormat(SparseFormat):
    """Values, and the (N, p_I, ceil(D / 8)) uint8 tensor ``bits`` of their places."""

    name = "bitmask"

    def __init__(self, layout: Layout, tensors: Mapping[str, Tensor]) -> None:
        super().__init__(layout, tensors)
        self.bits = nn.Parameter(tensors["bits"], requires_grad=False)
        self._starts: dict[int, Tensor] = {}

    @classmethod
    def tensors(cls, layout: Layout) -> dict[str, TensorSpec]:
        """Values, their scales, and the bits."""
        bits = TensorSpec((layout.num_stored, layout.neurons, -(-layout.width // 8)), torch.uint8)
        return {**cls.value_specs(layout), "bits": bits}

    @classmethod
    def pack(cls, matrices: Iterable[CompressedMatrix], layout: Layout) -> Self:
        """Encode the values of each matrix; its bits are there already."""
        counts, bits = list[int](), list[Tensor]()

        def counted() -> Iterable[SparseMatrix]:
            for matrix in matrices:
                assert isinstance(matrix, SparseMatrix)
                counts.append(matrix.count)
                bits.append(matrix.bits)
                yield matrix

        values = cls.encode_values(counted(), layout.encoding)
        tensors = {**values, "bits": torch.stack(bits)}
        return cls(layout.model_copy(update={"counts": tuple(counts)}), tensors)

    def restore(self, matrix: Tensor, center: Tensor | None, expert: int) -> None:
        """Put the values at the set bits on top of the center, in one pass."""
        if expert not in self._starts:
            self._starts[expert] = mask_starts(self.bits[expert])
        values, scale = self._expert_values(expert)
        put_by_mask(matrix, center, self.bits[expert], self._starts[expert], values=values, scale=scale)

    def shard_neurons(self, rank: int, world_size: int) -> BitmaskFormat:
        """Copy some rows of every expert's mask, and their values."""
        starts = torch.stack([mask_starts(bits) for bits in self.bits])
        neurons, spans, counts = self._shard_rows(starts, rank, world_size)
        tensors = self._take_values(spans, (slice(None), neurons)) | {"bits": self.bits[:, neurons].detach().clone()}
        return BitmaskFormat(self._shard_layout(counts, neurons.stop - neurons.start), tensors)

    def shard_experts(self, experts: Sequence[int]) -> BitmaskFormat:
        """Copy some experts' masks and values."""
        layout, spans = self._experts_layout(experts)
        tensors = self._take_values(spans, (list(experts), slice(None)))
        return BitmaskFormat(layout, tensors | {"bits": self.bits[list(experts)].detach().clone()})
