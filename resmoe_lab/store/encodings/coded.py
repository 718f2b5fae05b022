"""A whole matrix of entropy-coded multiples of a step: see :mod:`resmoe_lab.store.coder`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from ..._core.errors import UsageError
from ..coder import CodedMatrix, QuantizedValues, decode, encode
from ._base import Encoder
from ._encoding import ENCODERS, Encoded, Encoding, TensorSpec


@ENCODERS.register("coded")
class CodedEncoder(Encoder):
    """Stores the bytes of one coded matrix, which say how they are decoded.

    A method that codes chooses the step; so there is no name under which users could ask for it alone.
    """

    by_rows = False
    presets: ClassVar[dict[str, dict[str, Any]]] = {}

    @classmethod
    def validate(cls, encoding: Encoding) -> None:
        """Refuse all but symbols of at most 8 bits, and a size below zero."""
        rest = (encoding.bits, encoding.group, encoding.scale)
        if rest != (8, None, None) or (encoding.size is not None and encoding.size < 0):
            raise ValueError(f"{encoding.__dict__} is no encoding, expected kind 'coded', 8 bits and a size")

    @classmethod
    def name_of(cls, encoding: Encoding) -> str:
        """Its kind: the rest is in the bytes."""
        return encoding.kind

    @classmethod
    def specs(cls, encoding: Encoding, rows: int, columns: int) -> dict[str, TensorSpec]:
        """As many bytes as the encoding says."""
        return {"data": TensorSpec((encoding.size or 0,), torch.uint8)}

    @classmethod
    def ragged_specs(cls, encoding: Encoding, rows: int, values: int) -> dict[str, TensorSpec]:
        """As many bytes as the encoding says."""
        return cls.specs(encoding, rows, values)

    @classmethod
    def encode(cls, encoding: Encoding, matrix: Tensor) -> dict[str, Tensor]:
        """Refuse: a step has to be chosen."""
        raise UsageError("a matrix is coded by a method that chooses the step: coded or resmoe-coded")

    @classmethod
    def encode_ragged(cls, encoding: Encoding, values: Tensor, counts: Tensor) -> dict[str, Tensor]:
        """Refuse: a step has to be chosen."""
        return cls.encode(encoding, values)

    @classmethod
    def decode_matrix(
        cls, encoding: Encoding, parts: Mapping[str, Tensor], shape: tuple[int, int], dtype: torch.dtype
    ) -> Tensor:
        """Decode the whole matrix."""
        data = parts["data"]
        matrix = torch.from_numpy(decode(data.detach().cpu().numpy(), shape, where="a coded center"))
        return matrix.to(data.device, dtype)

    @classmethod
    def shard_center(
        cls, encoding: Encoding, parts: Mapping[str, Tensor], neurons: slice, *, shape: tuple[int, int], blocks: int
    ) -> Encoded:
        """Code the symbols of some rows again: they stay as they are."""
        data, where = parts["data"], "a coded center"
        coded = CodedMatrix.read(data.detach().cpu().numpy(), shape=shape, where=where)
        shard = encode_quantized(coded.symbols(where=where).take(neurons))
        return Encoded(shard.encoding, {"data": shard.data.to(data.device)}, shape[1] // blocks)


def encode_quantized(values: QuantizedValues) -> Encoded:
    """Code a quantized matrix as one run of bytes."""
    data = torch.from_numpy(np.array(encode(values)))
    return Encoded(Encoding(kind="coded", bits=8, size=len(data)), {"data": data})
