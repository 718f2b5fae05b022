"""The header of a GGUF file: its metadata, and where each tensor lies, without loading one.

The package ``gguf`` makes an array of every token of the vocabulary, which takes ten seconds for a large one: here they
are walked over and counted. Nothing is allocated by a number of the file that its size contradicts.
"""

from __future__ import annotations

import math
import mmap
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import torch

from ..._core.errors import CheckpointError

_MAGIC, _VERSIONS = b"GGUF", (2, 3)
#: How Python's struct reads the types of metadata that have a fixed size.
_NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9
#: More than any model has; headers that claim more are damaged.
_MOST_ENTRIES, _MOST_STRINGS, _MOST_SIDES = 1 << 20, 1 << 24, 8
#: Longer arrays of numbers belong to the tokenizer, and are counted like its strings.
_KEPT = 1 << 14
_FLOATS = ("F32", "F16", "BF16")
_ADVICE = "copy it again"


@dataclass(frozen=True)
class GgufTensor:
    """Where a tensor lies in its file.

    Parameters
    ----------
    kind
        GGUF's name of the type that it is stored in, such as ``"Q4_K"``.
    shape
        As PyTorch has it: rows before columns.
    start, nbytes
        Its bytes in the file.
    """

    kind: str
    shape: tuple[int, ...]
    start: int
    nbytes: int

    @property
    def floats(self) -> bool:
        """Whether it is stored as floats, of which each is a weight."""
        return self.kind in _FLOATS


@dataclass(frozen=True)
class GgufHeader:
    """What a GGUF file says of itself.

    Parameters
    ----------
    file
        The file.
    metadata
        Its metadata; of lists of strings, and of very long ones, the length alone.
    tensors
        Its tensors, by the names that they have in GGUF.
    start
        Where their data begins.
    """

    file: Path
    metadata: Mapping[str, Any]
    tensors: Mapping[str, GgufTensor]
    start: int

    @property
    def architecture(self) -> str:
        """GGUF's name of the model's architecture, empty if it does not say."""
        return str(self.metadata.get("general.architecture", ""))


def read_gguf_header(file: Path) -> GgufHeader:
    """Read the header of a GGUF file and check it against the size of the file.

    Raises
    ------
    CheckpointError
        If the file is missing, truncated, damaged, big-endian, or holds a type that is not read.
    """
    try:
        status = file.stat()
    except OSError as error:
        raise CheckpointError(f"{file} is missing: {_ADVICE}") from error
    return _read(file, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=64)
def _read(file: Path, size: int, changed: int) -> GgufHeader:
    if size < 24:
        raise CheckpointError(f"{file} ({size} bytes) is truncated or no GGUF file: {_ADVICE}")
    with file.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return _Reader(file, content).header()


class _Reader:
    """Reads a header from its beginning to its end."""

    def __init__(self, file: Path, content: mmap.mmap) -> None:
        self._file, self._content, self._place = file, content, 0

    def header(self) -> GgufHeader:
        """Return the header."""
        if self._content[:4] != _MAGIC:
            raise CheckpointError(f"{self._file} begins with {self._content[:4]!r}, expected {_MAGIC!r}: {_ADVICE}")
        self._place = 4
        version = self._number("I")
        if version & 0xFFFF == 0:
            raise CheckpointError(
                f"{self._file} is a big-endian GGUF file, which is not read: use the little-endian one"
            )
        if version not in _VERSIONS:
            raise CheckpointError(
                f"{self._file} is GGUF version {version}, expected one of {', '.join(map(str, _VERSIONS))}: convert "
                "the model with a recent llama.cpp"
            )
        tensors, entries = self._count(_MOST_ENTRIES), self._count(_MOST_ENTRIES)
        metadata = dict(self._entry() for _ in range(entries))
        found = [self._tensor() for _ in range(tensors)]
        alignment = metadata.get("general.alignment", 32)
        if not isinstance(alignment, int) or alignment < 1 or alignment & (alignment - 1):
            raise self._damaged(f"an alignment of {alignment!r}")
        start = -(-self._place // alignment) * alignment
        placed = {name: GgufTensor(kind, shape, start + offset, size) for name, kind, shape, offset, size in found}
        if len(placed) < tensors:
            raise self._damaged("two tensors of one name")
        self._check_places(placed)
        return GgufHeader(self._file, metadata, placed, start)

    def _check_places(self, tensors: Mapping[str, GgufTensor]) -> None:
        end = 0
        for name, tensor in sorted(tensors.items(), key=lambda item: item[1].start):
            if tensor.start < end:
                raise self._damaged(f"tensor {name!r} begins at byte {tensor.start}, inside of another")
            end = tensor.start + tensor.nbytes
            if end > len(self._content):
                raise CheckpointError(
                    f"{self._file} ({len(self._content)} bytes) is truncated: tensor {name!r} ends at byte {end}; "
                    f"{_ADVICE}"
                )

    def _entry(self) -> tuple[str, Any]:
        return self._string(), self._value(self._number("I"))

    def _value(self, kind: int) -> Any:
        if kind in _NUMBERS:
            return self._number(_NUMBERS[kind])
        if kind == _STRING:
            return self._string()
        if kind == _ARRAY:
            return self._array(self._number("I"))
        raise self._damaged(f"a value of type {kind}")

    def _array(self, kind: int) -> Any:
        count = self._count(_MOST_STRINGS)
        if kind == _STRING:
            for _ in range(count):
                self._skip(self._number("Q"))
            return count
        if kind not in _NUMBERS:
            raise self._damaged(f"a list of type {kind}")
        place, code = self._place, f"<{count if count <= _KEPT else 0}{_NUMBERS[kind]}"
        self._skip(count * struct.calcsize(f"<{_NUMBERS[kind]}"))
        return list(struct.unpack_from(code, self._content, place)) if count <= _KEPT else count

    def _tensor(self) -> tuple[str, str, tuple[int, ...], int, int]:
        name, sides = self._string(), self._number("I")
        if sides > _MOST_SIDES:
            raise self._damaged(f"tensor {name!r} of {sides} dimensions")
        shape = tuple(self._number("Q") for _ in range(sides))[::-1] or (1,)
        if min(shape) < 1:
            raise self._damaged(f"tensor {name!r} of shape {shape}")
        number, offset = self._number("I"), self._number("Q")
        kind, block, size = _storage(number, str(self._file))
        if shape[-1] % block:
            raise self._damaged(f"tensor {name!r} of shape {shape}, though {kind} stores {block} weights together")
        return name, kind, shape, offset, math.prod(shape) // block * size

    def _string(self) -> str:
        length = self._number("Q")
        start = self._place
        self._skip(length)
        try:
            return self._content[start : self._place].decode()
        except UnicodeDecodeError as error:
            raise self._damaged(f"text that is no UTF-8 ({error.reason})") from error

    def _count(self, most: int) -> int:
        count: int = self._number("Q")
        if count > most:
            raise self._damaged(f"{count} entries, expected at most {most}")
        return count

    def _number(self, code: str) -> Any:
        start, code = self._place, f"<{code}"
        self._skip(struct.calcsize(code))
        return struct.unpack_from(code, self._content, start)[0]

    def _skip(self, length: int) -> None:
        if length > len(self._content) - self._place:
            raise CheckpointError(
                f"{self._file} ({len(self._content)} bytes) is truncated: its header goes on for {length} bytes from "
                f"byte {self._place}; {_ADVICE}"
            )
        self._place += length

    def _damaged(self, what: str) -> CheckpointError:
        return CheckpointError(f"{self._file} has a damaged GGUF header ({what}): {_ADVICE}")


def _storage(number: int, file: str) -> tuple[str, int, int]:
    """The name of a type, the weights in one of its blocks, and their bytes."""
    gguf = gguf_package(file)
    try:
        kind = gguf.GGMLQuantizationType(number)
    except ValueError as error:
        raise CheckpointError(
            f"{file} holds tensors of GGUF type {number}, which the installed gguf package does not know: upgrade it"
        ) from error
    if not _is_decoded(kind):
        raise CheckpointError(
            f"{file} holds tensors of type {kind.name}, which the gguf package cannot decode: use another of the "
            "model's files"
        )
    return kind.name, *gguf.GGML_QUANT_SIZES[kind]


@cache
def _is_decoded(kind: Any) -> bool:
    import numpy as np
    from gguf import GGML_QUANT_SIZES
    from gguf.quants import dequantize

    try:
        dequantize(np.zeros((1, GGML_QUANT_SIZES[kind][1]), dtype=np.uint8), kind)
    except NotImplementedError:
        return False
    return True


def gguf_package(file: str) -> Any:
    """Return the package ``gguf``.

    Raises
    ------
    CheckpointError
        If it is not installed.
    """
    try:
        import gguf
    except ImportError as error:
        raise CheckpointError(
            f"{file} is a GGUF file, which needs the package gguf: pip install 'resmoe-lab[gguf]'"
        ) from error
    return gguf


def map_gguf(file: Path, names: Iterable[str], device: str) -> dict[str, torch.Tensor]:
    """Map the bytes of some tensors into memory: (..., bytes of a row)."""
    import numpy as np

    tensors, mapped = read_gguf_header(file).tensors, dict[str, torch.Tensor]()
    for name in names:
        tensor = tensors[name]
        # A private mapping: PyTorch wants memory that could be written, and nothing is.
        content = np.memmap(file, dtype=np.uint8, mode="c", offset=tensor.start, shape=(tensor.nbytes,))
        mapped[name] = torch.from_numpy(content).view(*tensor.shape[:-1], -1).to(device)
    return mapped
