"""Experts that stand for themselves, of as many neurons as each has: there is no center beside them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from ...experts import Block
from ..encodings import Encoded, TensorSpec, encode_rows
from ..layout import Layout
from ..matrices import CompressedMatrix, DenseMatrix, NeuronClusters, NeuronSubset
from ._base import FORMATS, Format
from ._shards import expert_index, expert_slices, shard_range
from ._stored import prefixed, stored_rows


@dataclass(frozen=True)
class _Origin:
    """Where the neurons of a smaller expert come from; known when it is encoded, and not stored.

    Parameters
    ----------
    rows
        (p_I,) int64: which stored row stands for each original neuron, -1 where none does.
    out_scale
        (c,) factor that is in the stored rows' columns of W2; None for ones.
    """

    rows: Tensor
    out_scale: Tensor | None = None


@FORMATS.register("whole")
class WholeFormat(Format):
    """The neurons of all experts (sum of the counts, D), one expert's after another's."""

    name = "whole"
    stores = (DenseMatrix, NeuronSubset, NeuronClusters)
    experts_only = True

    def __init__(self, layout: Layout, tensors: Mapping[str, Tensor]) -> None:
        super().__init__(layout, tensors)
        self.values = stored_rows("values", tensors, layout.encoding, columns=layout.width)
        self._slices = expert_slices(self.counts)
        self._origins: list[_Origin] | None = None

    @classmethod
    def tensors(cls, layout: Layout) -> dict[str, TensorSpec]:
        """Rows and their scales."""
        encoding = layout.encoding
        return prefixed("values", encoding.encoder.specs(encoding, sum(layout.counts), layout.width))

    @classmethod
    def pack(cls, matrices: Iterable[CompressedMatrix], layout: Layout) -> Self:
        """Encode each expert with as few neurons as compute the same."""
        counts, encoded, origins = list[int](), list[Encoded](), list[_Origin]()
        for matrix in matrices:
            rows, origin = _smallest_expert(matrix, layout.columns[-1])
            counts.append(len(rows))
            encoded.append(encode_rows(rows, layout.encoding))
            origins.append(origin)
        layout = layout.model_copy(update={"counts": tuple(counts), "neurons": max(1, *counts)})
        module = cls(layout, prefixed("values", Encoded.join(encoded).parts))
        module._origins = origins
        return module

    @classmethod
    def multiplications(cls, layout: Layout) -> list[int]:
        """One for each entry."""
        return [count * layout.width for count in layout.counts]

    def project_in(self, experts: slice, hidden: Tensor, products: Sequence[Tensor] | None) -> list[Tensor]:
        """Return the expert's own products."""
        values = self.values.read(self._slices[experts.start], hidden.dtype)
        return [hidden @ values[:, block.start : block.stop].T for block in self.in_blocks]

    def project_out(self, experts: slice, neurons: Tensor) -> Tensor:
        """Return the expert's output."""
        values = self.values.read(self._slices[experts.start], neurons.dtype)
        return neurons @ values[:, self.out_block.start : self.out_block.stop]

    def add_to(self, matrix: Tensor, expert: int) -> None:
        """Add the expert; where it has fewer neurons than the largest, the others stay as they are."""
        rows = self._slices[expert]
        matrix[: rows.stop - rows.start].add_(self.values.read(rows, matrix.dtype))

    def restore_aligned(self, expert: int, dtype: torch.dtype) -> Tensor:
        """Return the (p_I, D) expert with each neuron in the place of the original ones that it stands for."""
        if self._origins is None:
            return super().restore_aligned(expert, dtype)
        values, origin = self.values.read(self._slices[expert], dtype), self._origins[expert]
        if origin.out_scale is not None:
            values = values.clone()
            scale = origin.out_scale.to(values).clamp(min=1)
            values[:, self.out_block.start : self.out_block.stop] /= scale[:, None]
        index = origin.rows.to(values.device)
        matrix = values.new_zeros(len(index), self.width)
        matrix[index >= 0] = values[index[index >= 0]]
        return matrix

    def shard_neurons(self, rank: int, world_size: int) -> WholeFormat:
        """Copy a part of each expert's own neurons, of which each may have another number."""
        parts = [shard_range(count, rank, world_size) for count in self.counts]
        offsets = [rows.start for rows in self._slices]
        index = [torch.arange(at + part.start, at + part.stop) for at, part in zip(offsets, parts, strict=True)]
        counts = tuple(part.stop - part.start for part in parts)
        return self._share(counts, torch.cat(index))

    def shard_experts(self, experts: Sequence[int]) -> WholeFormat:
        """Copy some experts."""
        counts = tuple(self.counts[expert] for expert in experts)
        return self._share(counts, expert_index(self.counts, experts))

    def _share(self, counts: tuple[int, ...], rows: Tensor) -> WholeFormat:
        layout = self.layout.model_copy(update={"counts": counts, "neurons": max(1, *counts)})
        return WholeFormat(layout, prefixed("values", self.values.take(rows).parts))


def _smallest_expert(matrix: CompressedMatrix, out_block: Block) -> tuple[Tensor, _Origin]:
    """The expert that a matrix stands for, of as few neurons as compute the same, and where they come from."""
    if isinstance(matrix, NeuronSubset):
        rows = torch.full((matrix.neurons,), -1)
        rows[matrix.places.cpu()] = torch.arange(matrix.count)
        return matrix.rows, _Origin(rows)
    if isinstance(matrix, NeuronClusters):
        expert, sizes = matrix.centroids.clone(), matrix.sizes
        expert[:, out_block.start : out_block.stop] *= sizes[:, None]
        return expert, _Origin(matrix.labels, sizes)
    expert = matrix.restore()
    return expert, _Origin(torch.arange(len(expert)))
