"""Whole numbers of two to four bits, symmetric around zero, packed to the bit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from ..bits import pack_codes, packed_width, unpack_codes
from ..groups import from_codes, join_groups, num_groups, split_groups, spread_groups
from ._base import Encoder
from ._encoding import ENCODERS, Encoding, TensorSpec
from .integers import largest_of_rows, symmetric_scales, to_integers


@ENCODERS.register("packed")
class PackedIntegerEncoder(Encoder):
    """Rounds values to multiples of a scale: one for each group of a row, or for each row where rows are ragged.

    How many values a ragged row has, the layout of a layer does not tell, so groups of them could not be counted from
    it. The ragged values of all experts are one stream of bits.
    """

    presets: ClassVar[dict[str, dict[str, Any]]] = {
        f"int{bits}": {"kind": "packed", "bits": bits, "group": 64, "scale": "bf16"} for bits in (4, 3, 2)
    }

    @classmethod
    def specs(cls, encoding: Encoding, rows: int, columns: int) -> dict[str, TensorSpec]:
        """Values, and the scales of the groups."""
        scale = TensorSpec((rows, num_groups(columns, cls._group(encoding))), torch.bfloat16)
        return {"data": TensorSpec((rows, packed_width(columns, encoding.bits)), torch.uint8), "scale": scale}

    @classmethod
    def ragged_specs(cls, encoding: Encoding, rows: int, values: int) -> dict[str, TensorSpec]:
        """Values, and the scales of the rows."""
        size = packed_width(values, encoding.bits)
        return {"data": TensorSpec((size,), torch.uint8), "scale": TensorSpec((rows,), torch.bfloat16)}

    @classmethod
    def encode(cls, encoding: Encoding, matrix: Tensor) -> dict[str, Tensor]:
        """Divide each group by its scale and round."""
        groups = split_groups(matrix, cls._group(encoding))
        scale = symmetric_scales(groups.abs().amax(-1), encoding.bits)
        codes = to_integers(groups, scale.float()[..., None], encoding.bits)
        return {"data": cls._pack(encoding, join_groups(codes, matrix.shape[1])), "scale": scale}

    @classmethod
    def encode_ragged(cls, encoding: Encoding, values: Tensor, counts: Tensor) -> dict[str, Tensor]:
        """Divide each row by its scale and round."""
        row, largest = largest_of_rows(values, counts)
        scale = symmetric_scales(largest, encoding.bits)
        return {"data": to_integers(values, scale.float()[row], encoding.bits), "scale": scale}

    @classmethod
    def pack_ragged(cls, encoding: Encoding, values: Tensor) -> Tensor:
        """Pack int8 values to the bit."""
        return cls._pack(encoding, values[None])[0]

    @classmethod
    def unpack_ragged(cls, encoding: Encoding, data: Tensor, values: slice) -> Tensor:
        """Unpack the bytes that hold some values, from one that begins with a value on."""
        before = values.start % 8
        first = (values.start - before) * encoding.bits // 8
        held = data[None, first : packed_width(values.stop, encoding.bits)]
        codes = unpack_codes(held, encoding.bits, values.stop - values.start + before)[0, before:]
        return codes.to(torch.int8) - (1 << (encoding.bits - 1))

    @classmethod
    def cut(
        cls, encoding: Encoding, parts: Mapping[str, Tensor], columns: slice, *, width: int, group: int | None
    ) -> dict[str, Tensor]:
        """Copy some columns, and repeat scales for smaller groups."""
        assert group is not None
        codes = unpack_codes(parts["data"], encoding.bits, width)[:, columns]
        scale = spread_groups(parts["scale"], cls._group(encoding), group, columns)
        return {"data": pack_codes(codes, encoding.bits), "scale": scale}

    @classmethod
    def decode(
        cls, encoding: Encoding, parts: Mapping[str, Tensor], dtype: torch.dtype, *, columns: int | None = None
    ) -> Tensor:
        """Unpack, and multiply by the scales in the wanted type (in float32, where that has fewer bits)."""
        assert columns is not None
        wide = torch.promote_types(dtype, torch.float32)
        scale, group = parts["scale"].to(wide), cls._group(encoding)
        middle = torch.full_like(scale, 1 << (encoding.bits - 1))
        codes = unpack_codes(parts["data"], encoding.bits, columns)
        return from_codes(codes, scale, middle, group=group).to(dtype)

    @staticmethod
    def _group(encoding: Encoding) -> int:
        assert encoding.group is not None
        return encoding.group

    @staticmethod
    def _pack(encoding: Encoding, values: Tensor) -> Tensor:
        return pack_codes((values + (1 << (encoding.bits - 1))).to(torch.uint8), encoding.bits)
