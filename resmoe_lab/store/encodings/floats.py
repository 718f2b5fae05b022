"""Floats of 32 or 16 bits, each value by itself."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from ..._core.errors import UsageError
from ._base import Encoder
from ._encoding import ENCODERS, Encoding, TensorSpec


class FloatEncoder(Encoder):
    """Rounds each value to a float type of torch.

    Attributes
    ----------
    dtype
        That type.
    """

    entries_round_alone = True
    dtype: ClassVar[torch.dtype]

    @classmethod
    def center_encoding(cls, encoding: Encoding) -> Encoding:
        """Use the same type for the center."""
        return encoding

    @classmethod
    def specs(cls, encoding: Encoding, rows: int, columns: int) -> dict[str, TensorSpec]:
        """One part, the values."""
        return {"data": TensorSpec((rows, columns), cls.dtype)}

    @classmethod
    def ragged_specs(cls, encoding: Encoding, rows: int, values: int) -> dict[str, TensorSpec]:
        """One part, the values."""
        return {"data": TensorSpec((values,), cls.dtype)}

    @classmethod
    def encode(cls, encoding: Encoding, matrix: Tensor) -> dict[str, Tensor]:
        """Round every value to the nearest one that the type has."""
        return {"data": matrix.to(cls.dtype)}

    @classmethod
    def encode_ragged(cls, encoding: Encoding, values: Tensor, counts: Tensor) -> dict[str, Tensor]:
        """Round every value to the nearest one that the type has."""
        return cls.encode(encoding, values)


@ENCODERS.register("fp32")
class Float32(FloatEncoder):
    """Single precision."""

    dtype = torch.float32
    presets: ClassVar[dict[str, dict[str, Any]]] = {"fp32": {"kind": "fp32", "bits": 32}}

    @classmethod
    def is_lossless(cls, encoding: Encoding) -> bool:
        """Float32 is what experts are computed in."""
        return True


@ENCODERS.register("bf16")
class BFloat16(FloatEncoder):
    """The 16 bits that most checkpoints have: the range of float32, eight bits of precision."""

    dtype = torch.bfloat16
    presets: ClassVar[dict[str, dict[str, Any]]] = {"bf16": {"kind": "bf16", "bits": 16}}


@ENCODERS.register("fp16")
class Float16(FloatEncoder):
    """Half precision: eleven bits of precision, values up to 65,504."""

    dtype = torch.float16
    presets: ClassVar[dict[str, dict[str, Any]]] = {"fp16": {"kind": "fp16", "bits": 16}}

    @classmethod
    def encode(cls, encoding: Encoding, matrix: Tensor) -> dict[str, Tensor]:
        """Round every value, and refuse those that become infinite.

        Raises
        ------
        UsageError
            If a finite value is larger than 65,504.
        """
        parts = super().encode(encoding, matrix)
        if matrix.numel() and not torch.isfinite(torch.stack(parts["data"].aminmax())).all():
            largest = float(matrix.abs().max())
            raise UsageError(f"a value of {largest:.3g} does not fit into fp16 (at most 65,504): use bf16 or fp32")
        return parts
