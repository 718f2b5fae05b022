"""Tensors as a checkpoint's files describe them: without loading one."""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .._core.errors import CheckpointError
from .._core.parsing import parse_json

#: The safetensors library itself refuses longer headers.
_MAX_HEADER_BYTES = 100_000_000
_DTYPE_BITS = {"F64": 64, "I64": 64, "U64": 64, "C64": 64, "F32": 32, "I32": 32, "U32": 32}
_DTYPE_BITS |= {"BF16": 16, "F16": 16, "I16": 16, "U16": 16, "I8": 8, "U8": 8, "BOOL": 8}
_DTYPE_BITS |= {f"F8_{kind}": 8 for kind in ("E4M3", "E5M2", "E8M0", "E4M3FNUZ", "E5M2FNUZ")}
_DTYPE_BITS |= {"F6_E2M3": 6, "F6_E3M2": 6, "F4": 4}
#: Types that weights are packed in, or rounded to.
_PACKED = ("I8", "U8", "I16", "U16", "I32", "U32", "F8_E4M3", "F8_E5M2", "F8_E8M0")


@dataclass(frozen=True)
class EncodedTensor:
    """How a tensor is stored that is not floats: in which codec, and in which tensors of the files.

    Parameters
    ----------
    codec
        A name in :data:`~resmoe_lab.checkpoint.codecs.CODECS`.
    parts
        What each stored tensor is to the codec -> its name in the files, and what it is.
    settings
        What the codec has to know beside them, such as its bits.
    stacked
        Whether the parts' first axis counts the experts of a layer, of which each can be decoded alone.
    labels
        What the encodings are called, where the codec has several; none where values are floats in another order.
    """

    codec: str
    parts: Mapping[str, tuple[str, TensorInfo]]
    settings: Mapping[str, Any] = field(default_factory=dict)
    stacked: bool = False
    labels: tuple[str, ...] | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """What its encodings are called."""
        return (self.codec,) if self.labels is None else self.labels


@dataclass(frozen=True)
class TensorInfo:
    """One tensor of a checkpoint.

    Parameters
    ----------
    file
        The file that holds it, or the first of its parts.
    dtype
        Safetensors' name of its type; of an encoded tensor, the type that it is decoded to.
    shape
        Its shape.
    nbytes
        Bytes in the files, those of all its parts.
    encoded
        How it is stored, unless as floats.
    """

    file: Path
    dtype: str
    shape: tuple[int, ...]
    nbytes: int
    encoded: EncodedTensor | None = None

    @property
    def quantized(self) -> bool:
        """Whether it is a matrix of numbers that only a codec makes weights of."""
        return len(self.shape) > 1 and self.dtype in _PACKED

    @property
    def written_bytes(self) -> int:
        """Bytes that it takes where it is written as it is read."""
        return self.nbytes if self.encoded is None else math.prod(self.shape) * _DTYPE_BITS[self.dtype] // 8

    @property
    def files(self) -> tuple[Path, ...]:
        """All files that it takes to read it."""
        if self.encoded is None:
            return (self.file,)
        return tuple(dict.fromkeys(info.file for _, info in self.encoded.parts.values()))


def read_header(file: Path) -> dict[str, TensorInfo]:
    """Read the header of a safetensors file and check it against the size of the file.

    Raises
    ------
    CheckpointError
        If the file is missing or truncated, or its header is invalid.
    """
    if not file.is_file():
        raise CheckpointError(f"{file} is missing: copy the checkpoint again")
    size = file.stat().st_size
    with file.open("rb") as stream:
        prefix = stream.read(8)
        length = struct.unpack("<Q", prefix)[0] if len(prefix) == 8 else 0
        if not 2 <= length <= min(size - 8, _MAX_HEADER_BYTES):
            raise CheckpointError(
                f"{file} ({size} bytes) is truncated or no safetensors file: its header claims {length} bytes; "
                "copy it again"
            )
        raw = stream.read(length)
    try:
        header = parse_json(raw)
        entries = {name: entry for name, entry in header.items() if name != "__metadata__"}
        spans = sorted(tuple(entry["data_offsets"]) for entry in entries.values())
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{file} has a damaged safetensors header ({error}): copy it again") from error
    infos = tensor_infos(file, entries)
    expected = 0
    for start, end in spans:
        if start != expected:
            raise CheckpointError(f"{file} has a damaged safetensors header (a gap at byte {expected}): copy it again")
        expected = end
    if expected != size - 8 - length:
        raise CheckpointError(f"{file} holds {size - 8 - length} bytes of tensors, expected {expected}: copy it again")
    return infos


def tensor_infos(file: Path, entries: Mapping[str, Any]) -> dict[str, TensorInfo]:
    """Return the tensors that the entries of a header describe.

    Raises
    ------
    CheckpointError
        If one is no description of a tensor.
    """
    try:
        return {name: _tensor_info(file, entry) for name, entry in entries.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{file} has a damaged safetensors header ({error}): copy it again") from error


def _tensor_info(file: Path, entry: dict[str, Any]) -> TensorInfo:
    start, end = entry["data_offsets"]
    shape, dtype = tuple(entry["shape"]), entry["dtype"]
    if any(type(number) is not int or number < 0 for number in (start, end, *shape)):
        raise ValueError(f"shape {shape} at {start} to {end}, expected whole numbers")
    if dtype not in _DTYPE_BITS:
        raise ValueError(f"type {dtype!r}, expected one of {', '.join(_DTYPE_BITS)}")
    expected = -(-math.prod(shape) * _DTYPE_BITS[dtype] // 8)
    if end - start != expected:
        raise ValueError(f"shape {shape} of {dtype} takes {expected} bytes, found {end - start}")
    return TensorInfo(file, dtype, shape, expected)
