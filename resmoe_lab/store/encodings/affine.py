"""Whole numbers of two to eight bits with a scale and a zero for each group: what methods that round weights store."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, NoReturn

import torch
from torch import Tensor

from ..._core.threads import compiled_threads
from ..bits import pack_codes, packed_width, unpack_codes
from ..groups import affine_range, from_codes, join_groups, num_groups, split_groups, spread_groups, to_codes
from ..scatter import runs_compiled
from ._base import Encoder
from ._encoding import ENCODERS, Encoding, TensorSpec

#: Bits that a code may have.
BITS = range(2, 9)
#: Values that share a scale, unless the user says otherwise.
GROUP = 64
#: Codes that compiled loops take at a time.
_LANES = 32
#: What scales and zeros may be stored in.
SCALES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}


@ENCODERS.register("affine")
class AffineEncoder(Encoder):
    """Rounds the values of a group to the nearest of ``2 ** bits`` steps between its minimum and its maximum.

    No user names it: methods that round weights by some rule of their own choose it. Its codes are packed to the bit.
    """

    presets: ClassVar[dict[str, dict[str, Any]]] = {}

    @classmethod
    def validate(cls, encoding: Encoding) -> None:
        """Refuse bits, groups and scales that there are not."""
        if encoding.bits not in BITS or encoding.scale not in SCALES or not (encoding.group and encoding.group > 0):
            raise ValueError(
                f"{dict(encoding.__dict__)} is no encoding, expected {BITS[0]} to {BITS[-1]} bits, a group, "
                f"and a scale of {', '.join(SCALES)}"
            )

    @classmethod
    def name_of(cls, encoding: Encoding) -> str:
        """The kind, its bits and its group."""
        return f"affine{encoding.bits}g{encoding.group}"

    @classmethod
    def specs(cls, encoding: Encoding, rows: int, columns: int) -> dict[str, TensorSpec]:
        """Codes, packed row by row, and the scale and zero of every group."""
        assert encoding.group is not None
        by_group = TensorSpec((rows, num_groups(columns, encoding.group)), SCALES[str(encoding.scale)])
        codes = TensorSpec((rows, packed_width(columns, encoding.bits)), torch.uint8)
        return {"data": codes, "scale": by_group, "zero": by_group}

    @classmethod
    def ragged_specs(cls, encoding: Encoding, rows: int, values: int) -> NoReturn:
        """Single entries have no groups."""
        raise NotImplementedError("affine groups hold whole rows")

    @classmethod
    def encode(cls, encoding: Encoding, matrix: Tensor) -> dict[str, Tensor]:
        """Round to nearest."""
        assert encoding.group is not None
        groups = split_groups(matrix, encoding.group)
        scale, zero = affine_range(groups, encoding.bits)
        codes = join_groups(to_codes(groups, scale, zero, bits=encoding.bits), matrix.shape[1])
        return cls.pack(encoding, codes, scale, zero)

    @classmethod
    def encode_ragged(cls, encoding: Encoding, values: Tensor, counts: Tensor) -> NoReturn:
        """Single entries have no groups."""
        raise NotImplementedError("affine groups hold whole rows")

    @classmethod
    def pack(cls, encoding: Encoding, codes: Tensor, scale: Tensor, zero: Tensor) -> dict[str, Tensor]:
        """Return the parts of codes that are known already.

        Parameters
        ----------
        encoding
            How.
        codes
            (rows, columns) uint8.
        scale, zero
            (rows, G) floats.

        Raises
        ------
        UsageError
            If a scale or zero does not fit into the type that they are stored in.
        """
        floats = ENCODERS[str(encoding.scale)]
        kind = Encoding.parse(str(encoding.scale))
        scales = {name: floats.encode(kind, values)["data"] for name, values in (("scale", scale), ("zero", zero))}
        return {"data": pack_codes(codes, encoding.bits), **scales}

    @classmethod
    def codes(cls, encoding: Encoding, data: Tensor, columns: int) -> Tensor:
        """Return the (rows, columns) uint8 codes of packed ones."""
        return unpack_codes(data, encoding.bits, columns)

    @classmethod
    def cut(
        cls, encoding: Encoding, parts: Mapping[str, Tensor], columns: slice, *, width: int, group: int | None
    ) -> dict[str, Tensor]:
        """Copy some columns, and repeat scales and zeros for smaller groups."""
        assert encoding.group is not None
        assert group is not None
        codes = cls.codes(encoding, parts["data"], width)[:, columns]
        spread = {name: spread_groups(parts[name], encoding.group, group, columns) for name in ("scale", "zero")}
        return {"data": pack_codes(codes, encoding.bits), **spread}

    @classmethod
    def unpacks_fast(cls, encoding: Encoding, data: Tensor, columns: int) -> bool:
        """Whether compiled loops unpack codes into bfloat16: four bits, in whole groups of whole vectors."""
        group = encoding.group or 0
        return encoding.bits == 4 and group % _LANES == 0 and columns % group == 0 and runs_compiled(data)

    @classmethod
    def decode(
        cls, encoding: Encoding, parts: Mapping[str, Tensor], dtype: torch.dtype, *, columns: int | None = None
    ) -> Tensor:
        """Unpack, and apply scale and zero in the wanted type (in float32, where that has fewer bits)."""
        assert columns is not None
        assert encoding.group is not None
        if dtype == torch.bfloat16 and cls.unpacks_fast(encoding, parts["data"], columns):
            return _unpack_nibbles(parts, encoding.group, columns)
        codes, wide = cls.codes(encoding, parts["data"], columns), torch.promote_types(dtype, torch.float32)
        values = from_codes(codes, parts["scale"].to(wide), parts["zero"].to(wide), group=encoding.group)
        return values.to(dtype)


def affine_encoding(bits: int, *, group: int = GROUP, scale: str = "bf16") -> Encoding:
    """Return the encoding of so many bits.

    Raises
    ------
    ValueError
        If there is none with such bits, such a group or such a scale.
    """
    return Encoding(kind="affine", bits=bits, group=group, scale=scale)


def _unpack_nibbles(parts: Mapping[str, Tensor], group: int, columns: int) -> Tensor:
    values = torch.empty(len(parts["data"]), columns, dtype=torch.bfloat16)
    unpack_into(values, parts, group=group)
    return values


def unpack_into(values: Tensor, parts: Mapping[str, Tensor], *, group: int) -> None:
    """Fill a (rows, columns) bfloat16 matrix on the CPU with the values of packed four-bit codes, in compiled loops."""
    from .._nibbles import unpack

    data, scale, zero = (parts[name].detach() for name in ("data", "scale", "zero"))
    arrays = data.contiguous().numpy(), scale.float().numpy(), zero.float().numpy()
    with compiled_threads():
        unpack(*arrays, values.view(torch.uint16).numpy(), group=group)
