"""Whole numbers with a scale for each row."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from ._base import Encoder
from ._encoding import ENCODERS, Encoding, TensorSpec


@ENCODERS.register("int")
class IntegerEncoder(Encoder):
    """Rounds the values of a row to multiples of a scale, symmetric around zero.

    A scale is rounded to bfloat16 before its row's values are, so that loading it in any float type loses nothing more.
    """

    entries_round_alone = True
    presets: ClassVar[dict[str, dict[str, Any]]] = {"int8": {"kind": "int", "bits": 8, "scale": "bf16"}}

    @classmethod
    def specs(cls, encoding: Encoding, rows: int, columns: int) -> dict[str, TensorSpec]:
        """Values, and the scales of the rows."""
        return {"data": TensorSpec((rows, columns), torch.int8), "scale": TensorSpec((rows,), torch.bfloat16)}

    @classmethod
    def ragged_specs(cls, encoding: Encoding, rows: int, values: int) -> dict[str, TensorSpec]:
        """Values, and the scales of the rows."""
        return {"data": TensorSpec((values,), torch.int8), "scale": TensorSpec((rows,), torch.bfloat16)}

    @classmethod
    def encode(cls, encoding: Encoding, matrix: Tensor) -> dict[str, Tensor]:
        """Divide each row by its scale and round."""
        largest = matrix.abs().amax(dim=1) if matrix.shape[1] else matrix.new_zeros(len(matrix))
        scale = symmetric_scales(largest, encoding.bits)
        return {"data": to_integers(matrix, scale.float()[:, None], encoding.bits), "scale": scale}

    @classmethod
    def encode_ragged(cls, encoding: Encoding, values: Tensor, counts: Tensor) -> dict[str, Tensor]:
        """Divide each row by its scale and round."""
        row, largest = largest_of_rows(values, counts)
        scale = symmetric_scales(largest, encoding.bits)
        return {"data": to_integers(values, scale.float()[row], encoding.bits), "scale": scale}


def largest_of_rows(values: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
    """Return the (values,) row of each value of ragged rows, and the (rows,) largest magnitudes."""
    row = torch.repeat_interleave(torch.arange(len(counts), device=values.device), counts)
    return row, values.new_zeros(len(counts)).scatter_reduce_(0, row, values.abs(), "amax")


def symmetric_scales(largest: Tensor, bits: int) -> Tensor:
    """Return the bfloat16 scales of rows or groups whose largest magnitudes are given; 1 for a row of zeros."""
    return torch.where(largest > 0, largest / _limit(bits), torch.ones_like(largest)).bfloat16()


def to_integers(values: Tensor, scale: Tensor, bits: int) -> Tensor:
    """Return the int8 multiples of their scales that are nearest to values."""
    return (values / scale).round_().clamp_(-_limit(bits), _limit(bits)).to(torch.int8)


def _limit(bits: int) -> int:
    return 2 ** (bits - 1) - 1
