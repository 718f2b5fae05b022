"""Which GGUF files are one model: one file, or the parts of a split one."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

from ..._core.errors import CheckpointError
from .header import GgufHeader, GgufTensor, read_gguf_header

_PART = re.compile(r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})")


def gguf_files(place: Path) -> list[Path]:
    """Return the files of the model that a GGUF file belongs to, or that a folder holds; empty if it holds none.

    Raises
    ------
    CheckpointError
        If a folder holds several models, or a part is missing.
    """
    found = [place] if place.is_file() else sorted(place.glob("*.gguf"))
    models = defaultdict[tuple[str, str], list[Path]](list)
    for file in found:
        match = _PART.fullmatch(file.stem)
        models[(match["stem"], match["count"]) if match else (file.stem, "")].append(file)
    if not models:
        return []
    if len(models) > 1:
        first, second = [files[0].name for files in models.values()][:2]
        raise CheckpointError(
            f"{place} holds {len(models)} models in GGUF, such as {first} and {second}: name one file of one of them"
        )
    [((stem, count), files)] = models.items()
    if not count:
        return files
    parts = [files[0].with_name(f"{stem}-{number:05d}-of-{count}.gguf") for number in range(1, int(count) + 1)]
    if missing := [part.name for part in parts if not part.is_file()]:
        raise CheckpointError(f"{files[0].parent} lacks {missing[0]}, one of {int(count)} parts: copy it there")
    return parts


def read_headers(files: list[Path]) -> tuple[GgufHeader, Mapping[str, tuple[Path, GgufTensor]]]:
    """Return the header of a model's first file, and the tensors of all.

    Raises
    ------
    CheckpointError
        If a file is damaged, or the files do not belong together.
    """
    headers = [read_gguf_header(file) for file in files]
    tensors = dict[str, tuple[Path, GgufTensor]]()
    for number, header in enumerate(headers):
        said = header.metadata.get("split.no", 0), header.metadata.get("split.count", 0) or 1
        if said != (number, len(files)):
            raise CheckpointError(
                f"{header.file} says it is part {said[0] + 1} of {said[1]}, expected {number + 1} of {len(files)}: "
                "copy all parts of the model again, under their own names"
            )
        for name, tensor in header.tensors.items():
            if name in tensors:
                raise CheckpointError(f"{header.file} holds tensor {name!r} again, first found in {tensors[name][0]}")
            tensors[name] = header.file, tensor
    expected = headers[0].metadata.get("split.tensors.count", len(tensors))
    if expected != len(tensors):
        raise CheckpointError(
            f"{files[0]} and its parts hold {len(tensors)} tensors, expected {expected}: copy all parts again"
        )
    return headers[0], tensors
