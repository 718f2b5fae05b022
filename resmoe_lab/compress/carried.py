"""Tensors that no compressed layer replaces: copied in portions that are whole and described, or not there."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .._core.errors import ResmoeError
from .._core.parsing import read_json
from ..checkpoint import Checkpoint
from ..checkpoint.reader import read_file, read_tensors
from ..checkpoint.writer import digest, write_json, write_tensors
from ..runtime.rest import Rest, packed_rest

#: Bytes of decoded tensors that are written at once.
_PORTION = 1 << 31


@dataclass(frozen=True)
class Portion:
    """Tensors that are written into one file.

    Parameters
    ----------
    file
        That file.
    tensors
        Their names.
    rounded
        Modules whose weights are rounded.
    rest
        What they are rounded to.
    """

    file: Path
    tensors: tuple[str, ...]
    rounded: frozenset[str] = field(default_factory=frozenset)
    rest: Rest = "16"

    @property
    def description(self) -> Path:
        """What was measured; it is written last, so a portion counts from the moment this file is there."""
        return self.file.with_suffix(".json")

    def names(self, checkpoint: Checkpoint) -> Iterable[str]:
        """Return the names of the tensors that it takes."""
        return self.tensors

    def row(self) -> dict[str, Any] | None:
        """Its hash and the seconds that it took (None: it is not there, or not as it was written)."""
        try:
            described = read_json(self.description)
            row = {"digest": str(described["digest"]), "seconds": float(described["seconds"])}
            return row if digest(read_file(self.file)) == row["digest"] else None
        except (ValueError, KeyError, TypeError, OSError, ResmoeError):
            return None  # it is copied again

    def write(self, checkpoint: Checkpoint) -> None:
        """Read the tensors and write them."""
        begun = time.perf_counter()
        tensors = read_tensors(checkpoint, self.tensors)
        for name in self.tensors:
            module = name.removesuffix(".weight")
            if name.endswith(".weight") and module in self.rounded:
                tensors |= packed_rest(module, tensors.pop(name), self.rest)
        write_tensors(self.file, tensors)
        row = {"digest": digest(tensors), "seconds": time.perf_counter() - begun}
        write_json(self.description, row)


def portions(
    checkpoint: Checkpoint, place: Path, *, replaced: Set[str], rounded: Mapping[str, Any], rest: Rest
) -> Iterator[Portion]:
    """Yield the portions of all tensors but those that are replaced.

    Parameters
    ----------
    checkpoint
        The original.
    place
        What the names of the files begin with.
    replaced
        Names of the tensors that are left out.
    rounded, rest
        Modules whose weights are rounded, and to what.
    """
    for number, names in enumerate(_names(checkpoint, replaced)):
        file = place.with_name(f"{place.name}{number:05d}.safetensors")
        yield Portion(file, tuple(names), frozenset(rounded), rest)


def _names(checkpoint: Checkpoint, replaced: Set[str]) -> Iterator[list[str]]:
    """Names of the tensors that are written into one file: those of one, unless decoding them takes too much memory."""
    for source in checkpoint.files:
        portion, size = list[str](), 0
        for name, info in checkpoint.tensors.items():
            if info.file != source or name in replaced:
                continue
            decoded = 0 if info.encoded is None else info.written_bytes
            if portion and size + decoded > _PORTION:
                yield portion
                portion, size = [], 0
            portion.append(name)
            size += decoded
        if portion:
            yield portion
