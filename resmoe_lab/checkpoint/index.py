"""The index of a checkpoint's tensors, read from file headers without loading a tensor."""

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
from .hub import fetch_file, fetch_header, has_file
from .source import resolve

INDEX_FILE = "model.safetensors.index.json"
SINGLE_FILE = "model.safetensors"
#: The index of a packed checkpoint, under a name that an unregistered transformers does not open.
PACKED_INDEX_FILE = "resmoe.safetensors.index.json"
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
#: The safetensors library itself refuses longer headers.
_MAX_HEADER_BYTES = 100_000_000
_DTYPE_BYTES = {"F64": 8, "I64": 8, "F32": 4, "I32": 4, "BF16": 2, "F16": 2, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1}
_DTYPE_BYTES |= {"F8_E4M3": 1, "F8_E5M2": 1, "U16": 2, "U32": 4, "U64": 8}


@dataclass(frozen=True)
class TensorInfo:
    """One stored tensor: its file, dtype (safetensors' name), shape and size in bytes."""

    file: Path
    dtype: str
    shape: tuple[int, ...]
    nbytes: int


@dataclass(frozen=True)
class Checkpoint:
    """An open checkpoint, of which no tensor has been loaded.

    Parameters
    ----------
    name
        The name it was opened by: a zoo name, a folder or a hub id.
    folder
        Its local folder.
    config
        Its ``config.json``.
    tensors
        All tensors, by name.
    hub_id
        Hub id from which missing weight files are fetched (None: no file is missing).
    """

    name: str
    folder: Path
    config: Mapping[str, Any]
    tensors: Mapping[str, TensorInfo]
    hub_id: str | None = None

    @property
    def model_type(self) -> str:
        """The ``model_type`` of the config, which determines the family."""
        return str(self.config.get("model_type", ""))

    @property
    def packed(self) -> bool:
        """Whether its experts are stored in a compressed format."""
        return (self.config.get("quantization_config") or {}).get("quant_method") == "resmoe"

    @property
    def source(self) -> str:
        """A name by which processes with other working directories can open it: the hub id or the absolute path."""
        return self.hub_id or str(self.folder.absolute())

    def file_of(self, name: str) -> Path:
        """Return the file of a tensor, fetched from the hub if necessary.

        Raises
        ------
        CheckpointError
            If there is no such tensor, or the hub cannot provide its file.
        """
        if name not in self.tensors:
            raise CheckpointError(f"{self.folder} has no tensor {name!r}: the checkpoint is incomplete")
        file = self.tensors[name].file
        if self.hub_id is not None:
            fetch_file(self.hub_id, file)
        return file

    def complete_folder(self) -> Path:
        """Return the folder after fetching all missing weight files, as transformers needs it."""
        for name in {info.file: name for name, info in self.tensors.items()}.values():
            self.file_of(name)
        return self.folder

    @cached_property
    def total_bytes(self) -> int:
        """Stored bytes of all tensors."""
        return sum(info.nbytes for info in self.tensors.values())


def open_checkpoint(source: str | Path) -> Checkpoint:
    """Open a checkpoint without loading its tensors.

    Parameters
    ----------
    source
        A zoo name, a local folder with ``config.json`` and safetensors files, or a hub id.

    Returns
    -------
    Checkpoint
        Its config and the index of its tensors.

    Raises
    ------
    CheckpointError
        If it is missing, damaged, pickled, or refers to files outside of its folder.

    Examples
    --------
    >>> import resmoe_lab as rl
    >>> checkpoint = rl.open_checkpoint("mixtral-tiny")
    >>> checkpoint.model_type
    'mixtral'
    >>> checkpoint.tensors["lm_head.weight"].shape
    (3072, 128)
    """
    folder, hub_id = resolve(source)
    config = _read_json(folder / "config.json")
    tensors: dict[str, TensorInfo] = {}
    for file in _weight_files(folder, hub_id):
        header = read_header(file) if file.is_file() or hub_id is None else _infos(file, fetch_header(hub_id, file))
        for name, info in header.items():
            if name in tensors:
                raise CheckpointError(f"{file} holds tensor {name!r} again, first found in {tensors[name].file}")
            tensors[name] = info
    return Checkpoint(str(source), folder, config, tensors, hub_id)


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


def _weight_files(folder: Path, hub_id: str | None) -> list[Path]:
    """Return the safetensors files of a folder, by its index if it has one; those of the hub may be missing."""
    index = next((folder / name for name in (INDEX_FILE, PACKED_INDEX_FILE) if (folder / name).is_file()), None)
    if index is not None:
        weight_map = _read_json(index).get("weight_map")
        if not isinstance(weight_map, dict):
            raise CheckpointError(f"{index} has no 'weight_map': copy the checkpoint again")
        names = sorted({str(name) for name in weight_map.values()})
    elif (folder / SINGLE_FILE).is_file() or (hub_id is not None and has_file(hub_id, folder / SINGLE_FILE)):
        names = [SINGLE_FILE]
    else:
        raise CheckpointError(_no_weights(folder))
    return [_checked_path(folder, name, may_be_missing=hub_id is not None) for name in names]


def _no_weights(folder: Path) -> str:
    pickles = sorted(path.name for pattern in _PICKLES for path in folder.glob(pattern))
    if not pickles:
        return f"{folder} holds no {SINGLE_FILE} and no {INDEX_FILE}: it is not a safetensors checkpoint"
    return (
        f"{folder} holds only pickled weights ({pickles[0]}), which can run code when opened, and is refused: convert "
        "it once if you trust it, with model.save_pretrained(folder) of a recent transformers"
    )


def _checked_path(folder: Path, name: str, *, may_be_missing: bool) -> Path:
    """Return the path of a shard, after checking that it is in the folder and exists (unless it `may_be_missing`)."""
    path, root = folder / name, folder.resolve()
    # The files of the hub's cache are links from snapshots/REVISION to blobs/.
    in_cache = root.parent.name == "snapshots" and (root.parent.parent / "blobs").is_dir()
    allowed = root.parent.parent / "blobs" if in_cache else root
    if Path(name).name != name or (path.is_file() and not path.resolve().is_relative_to(allowed)):
        raise CheckpointError(f"{folder} names the shard {name!r}, which is outside of the folder: refused")
    if not path.is_file() and not may_be_missing:
        raise CheckpointError(f"{folder} lacks the shard {name!r} that its index names: copy the checkpoint again")
    return path


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
        header = json.loads(raw)
        entries = {name: entry for name, entry in header.items() if name != "__metadata__"}
        infos = _infos(file, entries)
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


def _infos(file: Path, entries: Mapping[str, Any]) -> dict[str, TensorInfo]:
    return {name: _tensor_info(file, entry) for name, entry in entries.items()}


def _tensor_info(file: Path, entry: dict[str, Any]) -> TensorInfo:
    start, end = entry["data_offsets"]
    shape = tuple(int(side) for side in entry["shape"])
    expected = math.prod(shape) * _DTYPE_BYTES.get(entry["dtype"], 0)
    if min((0, *shape)) < 0 or (expected and end - start != expected):
        raise ValueError(f"shape {shape} of {entry['dtype']} takes {expected} bytes, found {end - start}")
    return TensorInfo(file, str(entry["dtype"]), shape, end - start)
