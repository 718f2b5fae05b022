"""Base class of the kinds of encodings."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from ._encoding import BF16, Encoded, Encoding, TensorSpec, with_defaults


class Encoder(ABC):
    """One kind of encoding: subclass it in a file of its own and register it.

    Attributes
    ----------
    presets
        The encodings that users may name, by their name.
    entries_round_alone
        Whether an entry is rounded the same whatever entries no larger than it are dropped from its row.
    by_rows
        Whether every part has one entry for each row, so that rows can be encoded, joined and read by themselves.
    """

    presets: ClassVar[dict[str, dict[str, Any]]]
    entries_round_alone: ClassVar[bool] = False
    by_rows: ClassVar[bool] = True

    @classmethod
    def validate(cls, encoding: Encoding) -> None:
        """Refuse settings that this kind does not have; only the presets are allowed unless a kind says otherwise."""
        if dict(encoding.__dict__) not in [with_defaults(preset) for preset in cls.presets.values()]:
            raise ValueError(f"{encoding.__dict__} is no encoding, expected one of {', '.join(cls.presets)}")

    @classmethod
    def name_of(cls, encoding: Encoding) -> str:
        """The name of the preset that an encoding is."""
        values = dict(encoding.__dict__)
        names = [name for name, preset in cls.presets.items() if with_defaults(preset) == values]
        return names[0] if names else f"{encoding.kind}{encoding.bits}"

    @classmethod
    def is_lossless(cls, encoding: Encoding) -> bool:
        """Whether float32 values come back unchanged."""
        return False

    @classmethod
    def center_encoding(cls, encoding: Encoding) -> Encoding:
        """What a center is stored in beside residuals of this encoding: 16 bits unless a kind says otherwise."""
        return BF16

    @classmethod
    @abstractmethod
    def specs(cls, encoding: Encoding, rows: int, columns: int) -> dict[str, TensorSpec]:
        """Shape and dtype of every part of an encoded (rows, columns) matrix."""

    @classmethod
    @abstractmethod
    def ragged_specs(cls, encoding: Encoding, rows: int, values: int) -> dict[str, TensorSpec]:
        """Shape and dtype of every part of so many values in ragged rows."""

    @classmethod
    @abstractmethod
    def encode(cls, encoding: Encoding, matrix: Tensor) -> dict[str, Tensor]:
        """Encode a (rows, columns) float matrix."""

    @classmethod
    @abstractmethod
    def encode_ragged(cls, encoding: Encoding, values: Tensor, counts: Tensor) -> dict[str, Tensor]:
        """Encode the (values,) floats of ragged rows, `counts` (rows,) of them in each: one entry for each value."""

    @classmethod
    def pack_ragged(cls, encoding: Encoding, values: Tensor) -> Tensor:
        """Return the stored form of the ``"data"`` of all experts' ragged rows: as it is, unless a kind packs it."""
        return values

    @classmethod
    def unpack_ragged(cls, encoding: Encoding, data: Tensor, values: slice) -> Tensor:
        """Return some of the values that :meth:`pack_ragged` was given."""
        return data[values]

    @classmethod
    def cut(
        cls, encoding: Encoding, parts: Mapping[str, Tensor], columns: slice, *, width: int, group: int | None
    ) -> dict[str, Tensor]:
        """Copy some columns of encoded rows.

        Parameters
        ----------
        encoding, parts
            How, and what.
        columns
            Which.
        width
            How many there are.
        group
            How many share a scale in the copy, where the encoding has groups: it divides theirs, and the first column.
        """
        return {name: part[:, columns].clone() if name == "data" else part for name, part in parts.items()}

    @classmethod
    def unscaled(cls, encoding: Encoding, data: Tensor, dtype: torch.dtype) -> Tensor:
        """Return stored data as floats that only their row's scale is missing from."""
        return data.to(dtype)

    @classmethod
    def decode(
        cls, encoding: Encoding, parts: Mapping[str, Tensor], dtype: torch.dtype, *, columns: int | None = None
    ) -> Tensor:
        """Return the (rows, columns) floats of some encoded rows.

        Parameters
        ----------
        encoding, parts, dtype
            How, what, and as what.
        columns
            How many values a row has, where they are packed and the parts alone do not tell.
        """
        values, scale = cls.unscaled(encoding, parts["data"], dtype), parts.get("scale")
        return values if scale is None else values * scale[:, None].to(dtype)

    @classmethod
    def decode_matrix(
        cls, encoding: Encoding, parts: Mapping[str, Tensor], shape: tuple[int, int], dtype: torch.dtype
    ) -> Tensor:
        """Return the floats of a whole (rows, columns) matrix; its shape has to be what was encoded."""
        return cls.decode(encoding, parts, dtype)

    @classmethod
    def shard_center(
        cls, encoding: Encoding, parts: Mapping[str, Tensor], neurons: slice, *, shape: tuple[int, int], blocks: int
    ) -> Encoded:
        """Copy some neurons of a stored center.

        Parameters
        ----------
        encoding, parts
            How, and what: the rows of its column blocks, one block after another, or the whole matrix where the
            encoding is not by rows.
        neurons
            Which.
        shape
            (p_I, D) of the center.
        blocks
            How many column blocks it has.
        """
        rows = torch.arange(blocks * shape[0]).view(blocks, -1)[:, neurons].flatten()
        copied = {name: part[rows.to(part.device)].detach().clone() for name, part in parts.items()}
        return Encoded(encoding, copied, shape[1] // blocks)
