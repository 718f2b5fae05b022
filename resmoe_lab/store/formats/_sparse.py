"""What the formats of single entries share: their values, too scattered to be multiplied fast, so they are restored."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor

from ..encodings import Encoded, Encoding, TensorSpec, encode_ragged
from ..layout import Layout
from ..matrices import SparseMatrix
from ..scatter import mask_starts
from ._base import Format
from ._shards import expert_slices, shard_range
from ._stored import prefixed, stored_rows


class SparseFormat(Format):
    """Single entries of each expert's matrix; `values` are those of all experts in row-major order."""

    stores = (SparseMatrix,)
    multiplies = False

    def __init__(self, layout: Layout, tensors: Mapping[str, Tensor]) -> None:
        super().__init__(layout, tensors)
        self.values = stored_rows("values", tensors, layout.encoding)
        self._slices = expert_slices(self.counts)

    @staticmethod
    def value_specs(layout: Layout) -> dict[str, TensorSpec]:
        """The specs of the values, whose scales stand by expert and row."""
        rows = layout.num_stored * layout.neurons
        return prefixed("values", layout.encoding.encoder.ragged_specs(layout.encoding, rows, sum(layout.counts)))

    @staticmethod
    def encode_values(matrices: Iterable[SparseMatrix], encoding: Encoding) -> dict[str, Tensor]:
        """Encode the values of all experts."""
        encoded = (encode_ragged(matrix.values, mask_starts(matrix.bits).diff(), encoding) for matrix in matrices)
        parts = dict(Encoded.join(encoded).parts)
        parts["data"] = encoding.encoder.pack_ragged(encoding, parts["data"])
        return prefixed("values", parts)

    @classmethod
    def multiplications(cls, layout: Layout) -> list[int]:
        """One for each value."""
        return list(layout.counts)

    def add_to(self, matrix: Tensor, expert: int) -> None:
        """Add the entries to a matrix that holds something already."""
        addend = torch.empty_like(matrix)
        self.restore(addend, None, expert)
        matrix.add_(addend)

    def _expert_values(self, expert: int) -> tuple[Tensor, Tensor | None]:
        """The values of an expert, and the factors of its rows."""
        scale = self.values.row_scale
        rows = slice(expert * self.num_neurons, (expert + 1) * self.num_neurons)
        data, encoding = self._stored_values(self._slices[expert]), self.layout.encoding
        dtype = data.dtype if data.is_floating_point() else torch.float32
        return encoding.encoder.unscaled(encoding, data, dtype), None if scale is None else scale[rows]

    def _stored_values(self, values: slice) -> Tensor:
        """Some of all experts' values as they are stored, one entry each."""
        return self.layout.encoding.encoder.unpack_ragged(self.layout.encoding, self.values.data, values)

    def _take_values(self, spans: Sequence[slice], rows: tuple[slice | list[int], slice]) -> dict[str, Tensor]:
        """Copy some values, and what belongs to the experts and rows that they stand in."""
        encoding = self.layout.encoding
        taken = torch.cat([self._stored_values(span).detach() for span in spans])
        parts = {"data": encoding.encoder.pack_ragged(encoding, taken)}
        for name, part in self.values.state_dict().items():
            if name != "data":
                by_row = part.unflatten(0, (len(self.counts), self.num_neurons))
                parts[name] = by_row[rows].flatten(0, 1).clone()
        return prefixed("values", parts)

    def _shard_rows(self, starts: Tensor, rank: int, world_size: int) -> tuple[slice, list[slice], list[int]]:
        """The neurons of a shard, where their values are, and how many each expert has."""
        neurons = shard_range(self.num_neurons, rank, world_size)
        first, last = starts[:, neurons.start].tolist(), starts[:, neurons.stop].tolist()
        ends = zip(self._slices, first, last, strict=True)
        spans = [slice(expert.start + start, expert.start + stop) for expert, start, stop in ends]
        return neurons, spans, [span.stop - span.start for span in spans]

    def _shard_layout(self, counts: Sequence[int], neurons: int) -> Layout:
        return self.layout.model_copy(update={"counts": tuple(counts), "neurons": neurons})

    def _experts_layout(self, experts: Sequence[int]) -> tuple[Layout, list[slice]]:
        """The layout of some experts alone, and where their values are."""
        layout = self._shard_layout([self.counts[expert] for expert in experts], self.num_neurons)
        return layout, [self._slices[expert] for expert in experts]
