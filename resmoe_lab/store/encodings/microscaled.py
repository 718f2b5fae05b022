"""Four-bit floats (E2M1) whose groups share a scale of eight bits: MXFP4 and NVFP4, as publicly defined."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, NoReturn

import torch
from torch import Tensor

from ..bits import pack_codes, packed_width, unpack_codes
from ..groups import join_groups, num_groups, split_groups, spread_groups
from ._base import Encoder
from ._encoding import ENCODERS, Encoding, TensorSpec

#: The values of the sixteen codes; the highest bit is the sign.
VALUES = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, -0.0, -0.5, -1.0, -1.5, -2.0, -3.0, -4.0, -6.0)
#: Between two values: at a half, the code that is even is taken.
_LIMITS = (0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5.0)
_MIDDLE = 127


class MicroscaledEncoder(Encoder):
    """Codes of E2M1, and one byte for each group that scales it.

    Attributes
    ----------
    group
        Values that share a scale, by the format's definition.
    """

    presets: ClassVar[dict[str, dict[str, Any]]] = {}
    group: ClassVar[int]
    scale: ClassVar[str]

    @classmethod
    def encoding(cls) -> Encoding:
        """Return the encoding itself: there is one of each kind."""
        return Encoding.model_construct(kind=cls.__name__.lower(), bits=4, group=cls.group, scale=cls.scale)

    @classmethod
    def validate(cls, encoding: Encoding) -> None:
        """Four bits, and the group and scale of the definition."""
        if dict(encoding.__dict__) != dict(cls.encoding().__dict__):
            raise ValueError(f"{dict(encoding.__dict__)} is no encoding, expected {dict(cls.encoding().__dict__)}")

    @classmethod
    def name_of(cls, encoding: Encoding) -> str:
        """The kind alone tells everything."""
        return encoding.kind

    @classmethod
    @abstractmethod
    def exponents(cls, largest: Tensor, tensor_scale: Tensor) -> Tensor:
        """Return the (..., ) uint8 scales of groups whose largest magnitudes are given."""

    @classmethod
    @abstractmethod
    def factors(cls, scale: Tensor) -> Tensor:
        """Return the float32 factors that uint8 scales stand for."""

    @classmethod
    def tensor_scale(cls, matrix: Tensor) -> Tensor:
        """Return the float32 factor of a whole matrix: one, unless the format has another."""
        return torch.ones(())

    @classmethod
    def specs(cls, encoding: Encoding, rows: int, columns: int) -> dict[str, TensorSpec]:
        """Codes, packed two to a byte, and a byte for each group."""
        assert encoding.group is not None
        scale = TensorSpec((rows, num_groups(columns, encoding.group)), torch.uint8)
        return {"data": TensorSpec((rows, packed_width(columns, encoding.bits)), torch.uint8), "scale": scale}

    @classmethod
    def ragged_specs(cls, encoding: Encoding, rows: int, values: int) -> NoReturn:
        """Single entries have no groups."""
        raise NotImplementedError("microscaled groups hold whole rows")

    @classmethod
    def encode_ragged(cls, encoding: Encoding, values: Tensor, counts: Tensor) -> NoReturn:
        """Single entries have no groups."""
        raise NotImplementedError("microscaled groups hold whole rows")

    @classmethod
    def encode(cls, encoding: Encoding, matrix: Tensor) -> dict[str, Tensor]:
        """Round a matrix; what the whole of it is scaled by is :meth:`tensor_scale` of it, and not among the parts."""
        assert encoding.group is not None
        groups, whole = split_groups(matrix.float(), encoding.group), cls.tensor_scale(matrix)
        scale = cls.exponents(groups.abs().amax(-1), whole)
        factors = cls.factors(scale) * whole
        scaled = groups / torch.where(factors > 0, factors, 1.0)[..., None]
        codes = torch.where((factors > 0)[..., None], nearest_codes(scaled), 0)
        return {"data": pack_codes(join_groups(codes, matrix.shape[1]), encoding.bits), "scale": scale}

    @classmethod
    def cut(
        cls, encoding: Encoding, parts: Mapping[str, Tensor], columns: slice, *, width: int, group: int | None
    ) -> dict[str, Tensor]:
        """Copy some columns, and repeat scales for smaller groups."""
        assert encoding.group is not None
        assert group is not None
        codes = unpack_codes(parts["data"], encoding.bits, width)[:, columns]
        scale = spread_groups(parts["scale"], encoding.group, group, columns)
        return {"data": pack_codes(codes, encoding.bits), "scale": scale}

    @classmethod
    def decode(
        cls, encoding: Encoding, parts: Mapping[str, Tensor], dtype: torch.dtype, *, columns: int | None = None
    ) -> Tensor:
        """Look the codes up and multiply by the scales of their groups, not by that of the whole matrix."""
        assert columns is not None
        assert encoding.group is not None
        codes = split_groups(unpack_codes(parts["data"], encoding.bits, columns), encoding.group)
        table = torch.tensor(VALUES, device=codes.device)
        values = table[codes.int()] * cls.factors(parts["scale"])[..., None]
        return join_groups(values, columns).to(dtype)


@ENCODERS.register("mxfp4")
class MXFP4(MicroscaledEncoder):
    """Groups of 32 that share a power of two (E8M0).

    References
    ----------
    OCP Microscaling Formats (MX) Specification 1.0, sections 5.3.3 and 6.3.
    """

    group, scale = 32, "e8m0"

    @classmethod
    def exponents(cls, largest: Tensor, tensor_scale: Tensor) -> Tensor:
        """The exponent of the largest magnitude, less that of the largest code (4 = 2^2); zeros have the least."""
        exponent = torch.frexp(largest).exponent - 1
        return torch.where(largest > 0, exponent - 2 + _MIDDLE, 0).clamp(0, 254).to(torch.uint8)

    @classmethod
    def factors(cls, scale: Tensor) -> Tensor:
        """Powers of two."""
        return torch.ldexp(torch.ones_like(scale, dtype=torch.float32), scale.int() - _MIDDLE)


@ENCODERS.register("nvfp4")
class NVFP4(MicroscaledEncoder):
    """Groups of 16 that share a float of eight bits (E4M3), and one float32 for the whole matrix.

    References
    ----------
    NVIDIA, Introducing NVFP4 for Efficient and Accurate Low-Precision Inference, 2025: the matrix's factor takes its
    largest magnitude to the largest code times the largest scale, 6 x 448.
    """

    group, scale = 16, "e4m3"

    @classmethod
    def tensor_scale(cls, matrix: Tensor) -> Tensor:
        """The largest magnitude over 6 x 448."""
        largest = matrix.float().abs().amax() if matrix.numel() else torch.zeros(())
        return torch.where(largest > 0, largest / (VALUES[7] * torch.finfo(torch.float8_e4m3fn).max), 1.0)

    @classmethod
    def exponents(cls, largest: Tensor, tensor_scale: Tensor) -> Tensor:
        """The bits of the nearest E4M3 float."""
        return (largest / VALUES[7] / tensor_scale).to(torch.float8_e4m3fn).view(torch.uint8)

    @classmethod
    def factors(cls, scale: Tensor) -> Tensor:
        """The float8 that a byte is."""
        return scale.view(torch.float8_e4m3fn).float()


def nearest_codes(values: Tensor) -> Tensor:
    """Return the uint8 codes of the nearest E2M1 values, to even at a half; what is larger than six becomes six."""
    size = values.abs()
    limits = torch.tensor(_LIMITS, device=values.device)
    codes = torch.bucketize(size, limits)
    # A half goes to the even code: up from the odd ones, which bucketize leaves below.
    at_half = (size[..., None] == limits).any(-1) & (codes % 2 == 1)
    return (codes + at_half.long() + 8 * (values < 0).long()).to(torch.uint8)
