"""The encoding of a tensor's values as a validated object, what it makes of them, and the registry of its kinds."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import torch
from pydantic import BaseModel, ConfigDict, model_serializer, model_validator
from torch import Tensor

from ..._core.errors import UsageError
from ..._core.registry import Registry

if TYPE_CHECKING:
    from ._base import Encoder


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


def cut_encoding(encoding: Encoding, columns: slice) -> Encoding:
    """Return the encoding of a copy of some columns: with groups small enough that one begins where they begin."""
    if encoding.group is None:
        return encoding
    return encoding.model_copy(update={"group": math.gcd(encoding.group, columns.start)})


ENCODERS: Registry[type[Encoder]] = Registry("encoding", "resmoe_lab.store.encodings")


def with_defaults(preset: Mapping[str, Any]) -> dict[str, Any]:
    """Return all fields of the encoding that a preset names some of."""
    return {"group": None, "scale": None, "size": None, **preset}


def _presets() -> dict[str, Encoding]:
    """Name -> encoding, of every kind that is registered."""
    presets = {name: preset for kind in ENCODERS for name, preset in ENCODERS[kind].presets.items()}
    return {name: Encoding.model_construct(**with_defaults(preset)) for name, preset in presets.items()}


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
