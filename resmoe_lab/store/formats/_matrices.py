"""What the formats of rounded weights share: matrices as they multiply, codes packed, scales beside them."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Self

import torch
from torch import Tensor, nn

from ..._core.errors import CheckpointError
from ..encodings import Encoded, Encoding, TensorSpec, cut_encoding
from ..layout import Layout
from ..matrices import CompressedMatrix
from ._base import Format
from ._shards import expert_index, shard_range
from ._stored import StoredRows, prefixed, stored_rows


class MatricesFormat(Format):
    """Every weight matrix in codes, the experts below one another.

    A matrix lies as it multiplies: W1 and W3 as (N p_I, p), W2 as (N p, p_I), with groups along the rows. The counts of
    the layout are the bits of a code.
    """

    takes_vectors = True

    def __init__(self, layout: Layout, tensors: Mapping[str, Tensor]) -> None:
        super().__init__(layout, tensors)
        self.blocks = nn.ModuleList(
            stored_rows(f"blocks.{number}", tensors, layout.encoding, columns=columns)
            for number, (_, columns) in enumerate(matrix_shapes(layout))
        )

    @classmethod
    @abstractmethod
    def encode(cls, matrix: CompressedMatrix, encoding: Encoding) -> list[Encoded]:
        """Return the encoded weight matrices of one expert."""

    @classmethod
    def tensors(cls, layout: Layout) -> dict[str, TensorSpec]:
        """Codes of each matrix, and what belongs to their groups."""
        if layout.encoding.kind not in cls.kinds:
            expected = " or ".join(map(repr, cls.kinds))
            raise CheckpointError(f"format {cls.name!r} with values {layout.encoding.name!r}, expected {expected}")
        specs = dict[str, TensorSpec]()
        for number, (rows, columns) in enumerate(matrix_shapes(layout)):
            parts = layout.encoding.encoder.specs(layout.encoding, layout.num_stored * rows, columns)
            specs |= prefixed(f"blocks.{number}", parts)
        return specs

    @classmethod
    def pack(cls, matrices: Iterable[CompressedMatrix], layout: Layout) -> Self:
        """Pack the codes of each matrix."""
        counts, encoded = list[int](), list[list[Encoded]]()
        for matrix in matrices:
            counts.append(matrix.count)
            encoded.append(cls.encode(matrix, layout.encoding))
        encoding, tensors = encoded[0][0].encoding, dict[str, Tensor]()
        for number, rows in enumerate(zip(*encoded, strict=True)):
            tensors |= prefixed(f"blocks.{number}", Encoded.join(rows).parts)
        return cls(layout.model_copy(update={"counts": tuple(counts), "encoding": encoding}), tensors)

    @classmethod
    def multiplications(cls, layout: Layout) -> list[int]:
        """One for each weight."""
        return [layout.neurons * layout.width] * layout.num_stored

    def read(self, expert: int, block: int, dtype: torch.dtype) -> Tensor:
        """Return the values of a weight matrix, (p_I, p) on the way in, (p, p_I) on the way out."""
        return self._block(block).read(self._rows(expert, block), dtype)

    def project_in(self, experts: slice, hidden: Tensor, products: Sequence[Tensor] | None) -> list[Tensor]:
        """Add the products with W1 and W3."""
        own = [self._product(experts.start, block, hidden[0])[None] for block in range(len(self.in_blocks))]
        return own if products is None else [a + b for a, b in zip(products, own, strict=True)]

    def project_out(self, experts: slice, neurons: Tensor) -> Tensor:
        """Return the product with W2."""
        return self._product(experts.start, len(self.in_blocks), neurons[0])[None]

    def project_in_token(
        self, experts: Sequence[int], hidden: Tensor, center_products: Sequence[Tensor] | None
    ) -> list[Tensor]:
        """Return the products with each expert's W1 and W3, on top of the center's."""
        products = []
        for block in range(len(self.in_blocks)):
            own = torch.cat([self._product(expert, block, hidden[None]) for expert in experts])
            products.append(own if center_products is None else own.add_(center_products[block]))
        return products

    def project_out_token(self, experts: Sequence[int], neurons: Tensor, output: Tensor) -> None:
        """Add the products with each expert's W2."""
        for row, expert in zip(neurons, experts, strict=True):
            output.add_(self._product(expert, len(self.in_blocks), row[None])[0])

    def add_to(self, matrix: Tensor, expert: int) -> None:
        """Add the values of each matrix, W2 transposed."""
        for number, block in enumerate(self.in_blocks):
            matrix[:, block.start : block.stop] += self.read(expert, number, matrix.dtype)
        matrix[:, self.out_block.start :] += self.read(expert, len(self.in_blocks), matrix.dtype).T

    def shard_neurons(self, rank: int, world_size: int) -> Self:
        """Copy the rows of W1 and W3 and the columns of W2 that belong to some neurons.

        Where the cut goes through a group of W2, the shard has smaller groups, of which several share a scale.
        """
        part = shard_range(self.num_neurons, rank, world_size)
        old, encoding = self.layout.encoding, cut_encoding(self.layout.encoding, part)
        index = torch.arange(self.layout.num_stored * self.num_neurons).unflatten(0, (-1, self.num_neurons))
        rows, tensors = index[:, part].flatten(), dict[str, Tensor]()
        for number, (_, width) in enumerate(matrix_shapes(self.layout)):
            leaving = number == len(self.in_blocks)
            taken = self._block(number).take(slice(None) if leaving else rows).parts
            columns = part if leaving else slice(0, width)
            cut = old.encoder.cut(old, taken, columns, width=width, group=encoding.group)
            tensors |= prefixed(f"blocks.{number}", cut)
        layout = self.layout.model_copy(update={"neurons": part.stop - part.start, "encoding": encoding})
        return type(self)(layout, tensors)

    def shard_experts(self, experts: Sequence[int]) -> Self:
        """Copy some experts."""
        tensors = dict[str, Tensor]()
        for number, (rows, _) in enumerate(matrix_shapes(self.layout)):
            index = expert_index((rows,) * self.layout.num_stored, experts)
            tensors |= prefixed(f"blocks.{number}", self._block(number).take(index).parts)
        counts = tuple(self.counts[expert] for expert in experts)
        return type(self)(self.layout.model_copy(update={"counts": counts}), tensors)

    def _product(self, expert: int, block: int, inputs: Tensor) -> Tensor:
        """(n, inputs) times a matrix's transpose."""
        return inputs @ self.read(expert, block, inputs.dtype).T

    def _block(self, number: int) -> StoredRows:
        block = self.blocks[number]
        assert isinstance(block, StoredRows)
        return block

    def _rows(self, expert: int, block: int) -> slice:
        rows = matrix_shapes(self.layout)[block][0]
        return slice(expert * rows, (expert + 1) * rows)


def matrix_shapes(layout: Layout) -> list[tuple[int, int]]:
    """Outputs and inputs of each weight matrix of an expert: (p_I, p) on the way in, (p, p_I) on the way out."""
    *entering, leaving = (block.stop - block.start for block in layout.columns)
    return [*((layout.neurons, width) for width in entering), (leaving, layout.neurons)]
