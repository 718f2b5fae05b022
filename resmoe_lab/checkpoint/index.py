"""What a checkpoint holds, read from its headers alone: no tensor is loaded here."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from .._core.errors import CheckpointError
from .source import resolve

INDEX_FILE = "model.safetensors.index.json"
SINGLE_FILE = "model.safetensors"
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
#: safetensors itself refuses longer headers.
_LONGEST_HEADER = 100_000_000
_BYTES = {"F64": 8, "I64": 8, "F32": 4, "I32": 4, "BF16": 2, "F16": 2, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1}
_BYTES |= {"F8_E4M3": 1, "F8_E5M2": 1, "U16": 2, "U32": 4, "U64": 8}


@dataclass(frozen=True)
class TensorInfo:
    """Where one tensor lies: its file, dtype (safetensors' name), shape and stored bytes."""

    file: Path
    dtype: str
    shape: tuple[int, ...]
    nbytes: int


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint folder, opened without loading a tensor.

    Parameters
    ----------
    name
        What the user called it: a zoo name, a folder or a hub id.
    folder
        Where it lies.
    config
        Its ``config.json``.
    tensors
        Every tensor by name.
    """

    name: str
    folder: Path
    config: Mapping[str, Any]
    tensors: Mapping[str, TensorInfo]

    @property
    def model_type(self) -> str:
        """The ``model_type`` of the config, which decides the family."""
        return str(self.config.get("model_type", ""))

    @property
    def source(self) -> str:
        """What any process that sees the same files can open it by, wherever it works."""
        return str(self.folder.absolute())

    @cached_property
    def total_bytes(self) -> int:
        """Stored bytes of all tensors."""
        return sum(info.nbytes for info in self.tensors.values())


def open_checkpoint(source: str | Path) -> Checkpoint:
    """Open a checkpoint lazily.

    Parameters
    ----------
    source
        A zoo name, a local folder with ``config.json`` and safetensors files, or a hub id.

    Raises
    ------
    CheckpointError
        If it is missing, damaged, stored as pickle, or points out of its own folder.
    """
    folder = resolve(source)
    config = _read_json(folder / "config.json")
    tensors: dict[str, TensorInfo] = {}
    for file in _weight_files(folder):
        for name, info in read_header(file).items():
            if name in tensors:
                raise CheckpointError(f"{file} holds tensor {name!r} again, first found in {tensors[name].file}")
            tensors[name] = info
    return Checkpoint(str(source), folder, config, tensors)


def _read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise CheckpointError(f"{path} is missing, expected a checkpoint folder with config.json: check the path")
    try:
        content = json.loads(path.read_text("utf-8"))
    except (ValueError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{path} is not valid JSON ({error}): copy the checkpoint again") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} holds a {type(content).__name__}, expected a JSON object")
    return content


def _weight_files(folder: Path) -> list[Path]:
    """The safetensors files of a folder, by its index where it has one."""
    if (folder / INDEX_FILE).is_file():
        weight_map = _read_json(folder / INDEX_FILE).get("weight_map")
        if not isinstance(weight_map, dict):
            raise CheckpointError(f"{folder / INDEX_FILE} has no 'weight_map': copy the checkpoint again")
        names = sorted({str(name) for name in weight_map.values()})
    elif (folder / SINGLE_FILE).is_file():
        names = [SINGLE_FILE]
    else:
        raise CheckpointError(_no_weights(folder))
    return [_inside(folder, name) for name in names]


def _no_weights(folder: Path) -> str:
    pickles = sorted(path.name for pattern in _PICKLES for path in folder.glob(pattern))
    if not pickles:
        return f"{folder} holds no {SINGLE_FILE} and no {INDEX_FILE}: it is not a safetensors checkpoint"
    return (
        f"{folder} holds only pickled weights ({pickles[0]}), which can run code when opened, and is refused: convert "
        "it once where you trust it, with model.save_pretrained(folder) of a recent transformers"
    )


def _inside(folder: Path, name: str) -> Path:
    """Return the path of a shard, refusing any that leaves the folder."""
    path = folder / name
    if not path.is_file():
        raise CheckpointError(f"{folder} lacks the shard {name!r} that its index names: copy the checkpoint again")
    # The hub's own cache keeps its files as links from snapshots/REVISION to blobs/.
    root = folder.resolve()
    in_cache = root.parent.name == "snapshots" and (root.parent.parent / "blobs").is_dir()
    allowed = root.parent.parent / "blobs" if in_cache else root
    if Path(name).name != name or not path.resolve().is_relative_to(allowed):
        raise CheckpointError(f"{folder} names the shard {name!r}, which leads out of the folder: refused")
    return path


def read_header(file: Path) -> dict[str, TensorInfo]:
    """Read the header of one safetensors file and check that every byte it speaks of is there.

    Raises
    ------
    CheckpointError
        If the file is missing or truncated, or its header is not what the format says.
    """
    if not file.is_file():
        raise CheckpointError(f"{file} is missing: copy the checkpoint again")
    size = file.stat().st_size
    with file.open("rb") as stream:
        prefix = stream.read(8)
        length = struct.unpack("<Q", prefix)[0] if len(prefix) == 8 else 0
        if not 2 <= length <= min(size - 8, _LONGEST_HEADER):
            raise CheckpointError(
                f"{file} ({size} bytes) is truncated or no safetensors file: its header claims {length} bytes; "
                "copy it again"
            )
        raw = stream.read(length)
    try:
        header = json.loads(raw)
        entries = {name: entry for name, entry in header.items() if name != "__metadata__"}
        infos = {name: _tensor_info(file, entry) for name, entry in entries.items()}
        spans = sorted(tuple(entry["data_offsets"]) for entry in entries.values())
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{file} has a damaged safetensors header ({error}): copy it again") from error
    expected = 0
    for start, end in spans:
        if start != expected:
            raise CheckpointError(f"{file} has a damaged safetensors header (a gap at byte {expected}): copy it again")
        expected = end
    if expected != size - 8 - length:
        raise CheckpointError(f"{file} holds {size - 8 - length} bytes of tensors, expected {expected}: copy it again")
    return infos


def _tensor_info(file: Path, entry: dict[str, Any]) -> TensorInfo:
    start, end = entry["data_offsets"]
    shape = tuple(int(side) for side in entry["shape"])
    expected = math.prod(shape) * _BYTES.get(entry["dtype"], 0)
    if min((0, *shape)) < 0 or (expected and end - start != expected):
        raise ValueError(f"shape {shape} of {entry['dtype']} takes {expected} bytes, found {end - start}")
    return TensorInfo(file, str(entry["dtype"]), shape, end - start)
