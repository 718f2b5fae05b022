"""Experts, or residuals, of which every weight is rounded: small whole numbers in groups."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from ..encodings import Encoded, Encoding
from ..encodings.affine import AffineEncoder
from ..int4 import Int4Matrix, can_multiply, int4_matrix, multiply, multiply_unpacked
from ..layout import Layout
from ..matrices import CompressedMatrix
from ..quantized_matrices import QuantizedMatrix
from ._base import FORMATS
from ._matrices import MatricesFormat, matrix_shapes


@FORMATS.register("grouped")
class GroupedFormat(MatricesFormat):
    """Codes of two to eight bits, and the scale and zero of every group; four bits multiply as they are stored."""

    name = "grouped"
    stores = (QuantizedMatrix,)
    kinds = ("affine",)

    def __init__(self, layout: Layout, tensors: Mapping[str, Tensor]) -> None:
        super().__init__(layout, tensors)
        self._int4: dict[tuple[int, int], Int4Matrix] = {}

    @classmethod
    def encode(cls, matrix: CompressedMatrix, encoding: Encoding) -> list[Encoded]:
        """Pack codes, with the bits and the group that they have."""
        assert isinstance(matrix, QuantizedMatrix)
        encoding = encoding.model_copy(update={"bits": matrix.bits, "group": matrix.parts[0].group})
        parts = (AffineEncoder.pack(encoding, part.codes, part.scale, part.zero) for part in matrix.parts)
        return [Encoded(encoding, part) for part in parts]

    def _product(self, expert: int, block: int, inputs: Tensor) -> Tensor:
        """(n, inputs) times a matrix's transpose: as it is stored where torch can do that, else unpacked.

        What torch multiplies stands in another order, which is made once and takes as much memory again as is stored.
        """
        encoding, outputs = self.layout.encoding, matrix_shapes(self.layout)[block][0]
        assert encoding.group is not None
        parts = self._block(block).parts(self._rows(expert, block))
        if encoding.bits != 4 or not can_multiply(inputs, outputs, group=encoding.group):
            fast = inputs.dtype == torch.bfloat16 and not torch.is_grad_enabled()
            if fast and AffineEncoder.unpacks_fast(encoding, parts["data"], inputs.shape[1]):
                return multiply_unpacked(inputs, parts, group=encoding.group)
            return super()._product(expert, block, inputs)
        if (expert, block) not in self._int4:
            codes = AffineEncoder.codes(encoding, parts["data"], inputs.shape[1])
            self._int4[expert, block] = int4_matrix(codes, parts["scale"], parts["zero"], group=encoding.group)
        return multiply(inputs, self._int4[expert, block])
