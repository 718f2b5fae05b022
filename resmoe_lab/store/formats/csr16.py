"""Sparse experts, each value with its column in 16 bits: smaller than a bitmask where few entries are kept."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Self

import torch
from torch import Tensor, nn

from ..._core.errors import UsageError
from ..encodings import TensorSpec
from ..layout import Layout
from ..matrices import CompressedMatrix, SparseMatrix
from ..scatter import MAX_COLUMNS, pack_columns, put_by_columns
from ._base import FORMATS
from ._sparse import SparseFormat


@FORMATS.register("csr16")
class Csr16Format(SparseFormat):
    """Compressed sparse rows: values, (N, p_I + 1) int32 ``starts`` of the rows, and (values,) uint16 ``columns``."""

    name = "csr16"

    def __init__(self, layout: Layout, tensors: Mapping[str, Tensor]) -> None:
        super().__init__(layout, tensors)
        self.starts = nn.Parameter(tensors["starts"], requires_grad=False)
        self.columns = nn.Parameter(tensors["columns"], requires_grad=False)

    @classmethod
    def fits(cls, layout: Layout) -> bool:
        """Columns have to fit into 16 bits."""
        return layout.width <= MAX_COLUMNS

    @classmethod
    def tensors(cls, layout: Layout) -> dict[str, TensorSpec]:
        """Values, their scales, the starts of the rows and the columns."""
        starts = TensorSpec((layout.num_stored, layout.neurons + 1), torch.int32)
        columns = TensorSpec((sum(layout.counts),), torch.uint16)
        return {**cls.value_specs(layout), "starts": starts, "columns": columns}

    @classmethod
    def pack(cls, matrices: Iterable[CompressedMatrix], layout: Layout) -> Self:
        """Encode the values of each matrix, and turn its bits into columns.

        Raises
        ------
        UsageError
            If there are more than 65,536 columns.
        """
        if not cls.fits(layout):
            raise UsageError(f"{layout.width} columns do not fit into 16 bits: store the values as a bitmask")
        counts, starts, columns = list[int](), list[Tensor](), list[Tensor]()

        def counted() -> Iterable[SparseMatrix]:
            for matrix in matrices:
                assert isinstance(matrix, SparseMatrix)
                counts.append(matrix.count)
                row_starts, row_columns = pack_columns(matrix.mask)
                starts.append(row_starts)
                columns.append(row_columns)
                yield matrix

        tensors = cls.encode_values(counted(), layout.encoding)
        tensors |= {"starts": torch.stack(starts), "columns": torch.cat(columns)}
        return cls(layout.model_copy(update={"counts": tuple(counts)}), tensors)

    def restore(self, matrix: Tensor, center: Tensor | None, expert: int) -> None:
        """Put the values at their columns on top of the center, in one pass."""
        values, scale = self._expert_values(expert)
        columns = self.columns[self._slices[expert]]
        put_by_columns(matrix, center, columns, self.starts[expert], values=values, scale=scale)

    def shard_neurons(self, rank: int, world_size: int) -> Csr16Format:
        """Copy some rows of every expert."""
        neurons, spans, counts = self._shard_rows(self.starts, rank, world_size)
        starts = self.starts[:, neurons.start : neurons.stop + 1].detach()
        tensors = self._take_values(spans, (slice(None), neurons))
        tensors |= {
            "starts": starts - starts[:, :1],
            "columns": torch.cat([self.columns[span] for span in spans]).detach().clone(),
        }
        return Csr16Format(self._shard_layout(counts, neurons.stop - neurons.start), tensors)

    def shard_experts(self, experts: Sequence[int]) -> Csr16Format:
        """Copy some experts' values and columns."""
        layout, spans = self._experts_layout(experts)
        tensors = self._take_values(spans, (list(experts), slice(None)))
        tensors |= {"starts": self.starts[list(experts)].detach().clone()}
        return Csr16Format(
            layout, tensors | {"columns": torch.cat([self.columns[span] for span in spans]).detach().clone()}
        )
