"""Four-bit floats of the public microscaling formats: MXFP4 and NVFP4."""

from __future__ import annotations

from typing import Any, ClassVar

import torch

from .._core.errors import UsageError
from ..experts import LayerShape
from ..store.encodings import Encoded, encode_rows
from ..store.encodings.microscaled import MXFP4, NVFP4, MicroscaledEncoder
from ..store.layout import DEFAULT_STORAGE, Layout, Storage
from ..store.matrices import CompressedMatrix
from ..store.quantized_matrices import MicroscaledMatrix
from ._quantizers import QuantizingMethod, whole_bits
from ._registry import METHODS

#: Bits of a code.
BITS = 4


class Microscaled(QuantizingMethod):
    """Round every weight to E2M1, four bits whatever more is allowed; groups and scales are the format's own.

    Attributes
    ----------
    encoder
        The format.
    """

    matrix_type: ClassVar[type[CompressedMatrix]] = MicroscaledMatrix
    takes_group = False
    grows = False
    encoder: ClassVar[type[MicroscaledEncoder]]

    @classmethod
    def check_bits(cls, bits: float) -> None:
        """There is one number of bits."""
        if bits != BITS:
            raise UsageError(f"bits is {bits:g}, expected {BITS}: the format has no other")

    @classmethod
    def bits_of(cls, keep: float) -> float:
        """Always the same."""
        return BITS

    def count(self, shape: LayerShape, keep: float) -> int:
        """Four bits, where that many are allowed."""
        if whole_bits(keep) < BITS:
            least = BITS / 16
            raise UsageError(
                f"keep {keep:g} leaves {16 * keep:.3g} bits a weight, expected at least {BITS} bits: keep {least:g}"
            )
        return BITS

    def layout(
        self, shape: LayerShape, keep: float, *, storage: Storage = DEFAULT_STORAGE, has_center: bool | None = None
    ) -> Layout:
        """Store codes, whatever values would be stored as."""
        storage = storage.model_copy(update={"center": storage.center_encoding, "encoding": self.encoder.encoding()})
        return super(QuantizingMethod, self).layout(shape, keep, storage=storage, has_center=has_center)

    def compress_matrix(self, matrix: torch.Tensor, keep: float, hint: Any = None) -> MicroscaledMatrix:
        """Round each weight matrix."""
        *entering, leaving = matrix.split(list(hint[0]), dim=1)
        parts, factors = list[Encoded](), list[torch.Tensor]()
        for weights in (*entering, leaving.T.contiguous()):
            parts.append(encode_rows(weights, self.encoder.encoding()))
            factors.append(self.encoder.tensor_scale(weights))
        return MicroscaledMatrix(tuple(parts), tuple(factors))

    def round_matrix(self, weights: torch.Tensor, bits: int, moments: torch.Tensor | None) -> Any:
        """A whole matrix has a scale beside those of its groups."""
        raise NotImplementedError


@METHODS.register("mxfp4", title="MXFP4", reference="OCP Microscaling Formats 1.0")
class Mxfp4(Microscaled):
    """Groups of 32 with a power of two."""

    encoder = MXFP4


@METHODS.register("nvfp4", title="NVFP4", reference="NVIDIA NVFP4")
class Nvfp4(Microscaled):
    """Groups of 16 with a float of eight bits, and a float32 for each matrix."""

    encoder = NVFP4
