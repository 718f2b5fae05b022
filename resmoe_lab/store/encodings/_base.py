"""The encoding of a tensor's values as a validated object, and the registry of the classes that do the encoding."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, Self

import torch
from pydantic import BaseModel, ConfigDict, model_serializer, model_validator
from torch import Tensor

from ..._core.errors import UsageError
from ..._core.registry import Registry


class TensorSpec(NamedTuple):
    """Shape and dtype of a stored tensor."""

    shape: tuple[int, ...]
    dtype: torch.dtype

    @property
    def nbytes(self) -> int:
        """Bytes of its values."""
        return math.prod(self.shape) * self.dtype.itemsize

    def empty(self) -> Tensor:
        """Return a tensor like this without contents, on the current device."""
        return torch.empty(self.shape, dtype=self.dtype)


class Encoding(BaseModel):
    """How the values of a tensor are stored.

    It is written, and may be given wherever one is expected, as its name: ``"bf16"``, ``"int8"``.

    Parameters
    ----------
    kind
        A name in the registry of encoders, such as ``"bf16"`` or ``"int"``.
    bits
        Bits of a stored value, its share of the scales not included.
    group
        Values of a row that share a scale; None: a whole row, or no scale at all.
    scale
        Type of the scales, ``"bf16"``, or None where values stand for themselves.
    size
        Bytes of the stored tensor, where only coding tells them; None where its shape does.

    Examples
    --------
    >>> Encoding.parse("int8")
    Encoding(kind='int', bits=8, group=None, scale='bf16', size=None)
    >>> Encoding.parse("int8").name
    'int8'
    >>> Encoding.parse("bf16").bits
    16
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: str
    bits: int
    group: int | None = None
    scale: str | None = None
    size: int | None = None

    @model_validator(mode="before")
    @classmethod
    def _from_name(cls, content: Any) -> Any:
        if not isinstance(content, str):
            return content
        return dict(cls.parse(content).__dict__)

    @model_validator(mode="after")
    def _registered(self) -> Self:
        ENCODERS[self.kind].validate(self)
        return self

    @model_serializer
    def _as_name(self) -> str | dict[str, Any]:
        return self.name if self.name in _presets() else dict(self.__dict__)

    @classmethod
    def parse(cls, value: str | Encoding) -> Encoding:
        """Return the encoding of a name; an encoding is returned as it is.

        Raises
        ------
        UsageError
            If there is no encoding of that name.
        """
        if isinstance(value, Encoding):
            return value
        presets = _presets()
        if value not in presets:
            raise UsageError(f"values {value!r}, expected one of {', '.join(encoding_names())}")
        return presets[value]

    @property
    def name(self) -> str:
        """What users type: the kind and its numbers."""
        return ENCODERS[self.kind].name_of(self)

    @property
    def encoder(self) -> type[Encoder]:
        """The class that encodes and decodes."""
        return ENCODERS[self.kind]

    @property
    def lossless(self) -> bool:
        """Whether float32 values come back unchanged."""
        return self.encoder.is_lossless(self)

    @property
    def beside(self) -> Encoding:
        """What a center is stored in beside residuals of this encoding: the same float, or 16 bits beside integers."""
        return self.encoder.center_encoding(self)


@dataclass(frozen=True)
class Encoded:
    """The rows of a matrix as they are stored.

    Parameters
    ----------
    encoding
        How.
    parts
        Tensors by name. ``"data"`` has one entry for each row, or for each value of ragged rows; every other part has
        one entry for each row.
    columns
        How many values a row has; None where rows are ragged.
    """

    encoding: Encoding
    parts: Mapping[str, Tensor]
    columns: int | None = None

    def decode(self, dtype: torch.dtype) -> Tensor:
        """Return the (rows, columns) floats."""
        return self.encoding.encoder.decode(self.encoding, self.parts, dtype, columns=self.columns)

    @property
    def data(self) -> Tensor:
        """The stored values."""
        return self.parts["data"]

    @property
    def scale(self) -> Tensor | None:
        """(rows,) factors of the rows, None where values stand for themselves."""
        return self.parts.get("scale")

    @classmethod
    def join(cls, encoded: Iterable[Encoded]) -> Encoded:
        """Put the rows of several matrices below one another; encoded one by one, they take less memory."""
        items = list(encoded)
        names = items[0].parts
        parts = {name: torch.cat([item.parts[name] for item in items]) for name in names}
        return cls(items[0].encoding, parts, items[0].columns)

    @property
    def nbytes(self) -> int:
        """Bytes of all parts."""
        return sum(part.nbytes for part in self.parts.values())


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
        if dict(encoding.__dict__) not in [_defaults(preset) for preset in cls.presets.values()]:
            raise ValueError(f"{encoding.__dict__} is no encoding, expected one of {', '.join(cls.presets)}")

    @classmethod
    def name_of(cls, encoding: Encoding) -> str:
        """The name of the preset that an encoding is."""
        values = dict(encoding.__dict__)
        names = [name for name, preset in cls.presets.items() if _defaults(preset) == values]
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


def cut_encoding(encoding: Encoding, columns: slice) -> Encoding:
    """Return the encoding of a copy of some columns: with groups small enough that one begins where they begin."""
    if encoding.group is None:
        return encoding
    return encoding.model_copy(update={"group": math.gcd(encoding.group, columns.start)})


ENCODERS: Registry[type[Encoder]] = Registry("encoding", "resmoe_lab.store.encodings")


def _defaults(preset: Mapping[str, Any]) -> dict[str, Any]:
    return {"group": None, "scale": None, "size": None, **preset}


def _presets() -> dict[str, Encoding]:
    """Name -> encoding, of every kind that is registered."""
    presets = {name: preset for kind in ENCODERS for name, preset in ENCODERS[kind].presets.items()}
    return {name: Encoding.model_construct(**_defaults(preset)) for name, preset in presets.items()}


def encoding_names() -> list[str]:
    """Names of the encodings that users may choose, those of most bits first."""
    presets = _presets()
    return sorted(presets, key=lambda name: (-presets[name].bits, name))


BF16 = Encoding.model_construct(kind="bf16", bits=16, group=None, scale=None, size=None)
FP32 = Encoding.model_construct(kind="fp32", bits=32, group=None, scale=None, size=None)


def encode_rows(matrix: Tensor, encoding: str | Encoding) -> Encoded:
    """Encode a (rows, columns) float matrix.

    Raises
    ------
    UsageError
        If there is no such encoding, or a value does not fit into it.
    """
    encoding = Encoding.parse(encoding)
    return Encoded(encoding, encoding.encoder.encode(encoding, matrix), matrix.shape[1])


def encode_ragged(values: Tensor, counts: Tensor, encoding: str | Encoding) -> Encoded:
    """Encode the (values,) floats of rows of different lengths, `counts` (rows,) int32 or int64 of them in each.

    Raises
    ------
    UsageError
        If there is no such encoding, or a value does not fit into it.
    """
    encoding = Encoding.parse(encoding)
    return Encoded(encoding, encoding.encoder.encode_ragged(encoding, values, counts))


def roundtrip(matrix: Tensor, encoding: Encoding) -> Tensor:
    """Return a (rows, columns) matrix as it is after encoding its rows and decoding them again, in its own dtype."""
    if encoding.lossless:
        return matrix
    return encode_rows(matrix, encoding).decode(matrix.dtype)
