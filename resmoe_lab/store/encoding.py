"""How values are stored: 32 or 16 bit floats, or 8 bit whole numbers with a scale for each row."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from .._core.errors import UsageError

#: Name of a value type -> what holds one value.
VALUE_TYPES: dict[str, torch.dtype] = {
    "fp32": torch.float32,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
    "int8": torch.int8,
}
_LARGEST = 127


@dataclass(frozen=True)
class Encoded:
    """The rows of a matrix as they are stored.

    Parameters
    ----------
    data
        (rows, columns), or the (values,) of ragged rows.
    scale
        (rows,) bfloat16 factors of 8 bit rows, None where the values stand for themselves.
    """

    data: Tensor
    scale: Tensor | None

    @classmethod
    def join(cls, parts: Iterable[Encoded]) -> Encoded:
        """Put the rows of several matrices below one another; encoded one by one, they take less room on the way."""
        found = list(parts)
        scales = [part.scale for part in found if part.scale is not None]
        return cls(torch.cat([part.data for part in found]), torch.cat(scales) if scales else None)

    @property
    def nbytes(self) -> int:
        """Bytes of values and scales."""
        return self.data.nbytes + (0 if self.scale is None else self.scale.nbytes)


def value_type(name: str) -> torch.dtype:
    """Return the dtype that holds a value type.

    Raises
    ------
    UsageError
        If there is no such type.
    """
    if name not in VALUE_TYPES:
        raise UsageError(f"values {name!r}, expected one of {', '.join(VALUE_TYPES)}")
    return VALUE_TYPES[name]


def center_type(name: str) -> torch.dtype:
    """Return the dtype of a center beside residuals of a value type: 16 bits beside 8."""
    return torch.bfloat16 if name == "int8" else value_type(name)


def encode_rows(matrix: Tensor, values: str) -> Encoded:
    """Encode a (rows, columns) matrix.

    A row's scale is rounded to bfloat16 before its values are, so that loading it in any float type loses nothing more.
    """
    dtype = value_type(values)
    if dtype.is_floating_point:
        return Encoded(matrix.to(dtype), None)
    scale = scales(matrix.abs().amax(dim=1)) if matrix.shape[1] else matrix.new_ones(len(matrix)).bfloat16()
    return Encoded(to_whole(matrix, scale.float()[:, None]), scale)


def encode_ragged(values: Tensor, counts: Tensor, dtype_name: str) -> Encoded:
    """Encode the (values,) of rows of different lengths, `counts` (rows,) int32 or int64 of them in each."""
    dtype = value_type(dtype_name)
    if dtype.is_floating_point:
        return Encoded(values.to(dtype), None)
    row = torch.repeat_interleave(torch.arange(len(counts), device=values.device), counts)
    largest = values.new_zeros(len(counts)).scatter_reduce_(0, row, values.abs(), "amax")
    scale = scales(largest)
    return Encoded(to_whole(values, scale.float()[row]), scale)


def scales(largest: Tensor) -> Tensor:
    """Return the bfloat16 scales of rows whose largest magnitudes are given; 1 for a row of zeros."""
    return torch.where(largest > 0, largest / _LARGEST, torch.ones_like(largest)).bfloat16()


def to_whole(values: Tensor, scale: Tensor) -> Tensor:
    """Round values to the nearest 8 bit multiple of their scale."""
    return (values / scale).round_().clamp_(-_LARGEST, _LARGEST).to(torch.int8)
