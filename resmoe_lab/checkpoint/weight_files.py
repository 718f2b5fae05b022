"""Which files of a checkpoint's folder hold its weights, and what lies there instead of them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from .._core.errors import CheckpointError
from .._core.parsing import read_json
from .hub import has_file

INDEX_FILE = "model.safetensors.index.json"
SINGLE_FILE = "model.safetensors"
#: The index of a packed checkpoint, under a name that an unregistered transformers does not open.
PACKED_INDEX_FILE = "resmoe.safetensors.index.json"
#: What lies in a folder instead of a checkpoint, and what to do about it.
_OTHER_LAYOUTS = {
    "adapter_*": "an adapter (LoRA) without its model: merge it into the model first, and pass that folder",
    "consolidated*.safetensors": "Mistral's own layout: use the files that are named as in transformers",
    "model-*-of-*.safetensors": f"and no {INDEX_FILE}, and not all shards are there: copy the checkpoint again",
}
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")


def read_config(path: Path) -> dict[str, Any]:
    """Return a JSON object of a checkpoint's folder.

    Raises
    ------
    CheckpointError
        If the file is missing, or holds something else.
    """
    if not path.is_file():
        raise CheckpointError(f"{path} is missing, expected a checkpoint folder with config.json: check the path")
    try:
        content = read_json(path)
    except (ValueError, OSError) as error:
        raise CheckpointError(f"{path} is not valid JSON ({error}): copy the checkpoint again") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} holds a {type(content).__name__}, expected a JSON object")
    return content


def weight_files(folder: Path, hub_id: str | None) -> list[Path]:
    """Return the safetensors files of a folder, by its index if it has one; those of the hub may be missing.

    Raises
    ------
    CheckpointError
        If there is none, or one is missing or outside of the folder.
    """
    index = next((folder / name for name in (INDEX_FILE, PACKED_INDEX_FILE) if (folder / name).is_file()), None)
    if index is not None:
        weight_map = read_config(index).get("weight_map")
        if not isinstance(weight_map, dict):
            raise CheckpointError(f"{index} has no 'weight_map': copy the checkpoint again")
        if not all(isinstance(name, str) for name in weight_map.values()):
            raise CheckpointError(f"{index} has names of files that are no text: copy the checkpoint again")
        names = sorted(set(weight_map.values()))
    elif (folder / SINGLE_FILE).is_file() or (hub_id is not None and has_file(hub_id, folder / SINGLE_FILE)):
        names = [SINGLE_FILE]
    elif shards := _numbered_shards(folder):
        names = shards
    else:
        raise CheckpointError(_no_weights(folder))
    return [_checked_path(folder, name, may_be_missing=hub_id is not None) for name in names]


def _numbered_shards(folder: Path) -> list[str]:
    """The shards of a checkpoint that lost its index, if their numbers say that all are there."""
    shards = sorted(path.name for path in folder.glob("model-*-of-*.safetensors"))
    counts = {name.removesuffix(".safetensors").rpartition("-of-")[2] for name in shards}
    return shards if len(counts) == 1 and counts == {f"{len(shards):05d}"} else []


def _no_weights(folder: Path) -> str:
    pickles = sorted(path.name for pattern in _PICKLES for path in folder.glob(pattern))
    for pattern, what in _OTHER_LAYOUTS.items():
        if found := sorted(path.name for path in folder.glob(pattern)):
            return f"{folder} holds {found[0]}, {what}"
    if not pickles:
        return f"{folder} holds no {SINGLE_FILE} and no {INDEX_FILE}: it is not a safetensors checkpoint"
    return (
        f"{folder} holds only pickled weights ({pickles[0]}), which can run code when opened, and is refused: convert "
        "it once if you trust it, with model.save_pretrained(folder) of a recent transformers"
    )


def _checked_path(folder: Path, name: str, *, may_be_missing: bool) -> Path:
    """Return the path of a shard, after checking that it is in the folder and exists (unless it `may_be_missing`)."""
    path, root = folder / name, folder.resolve()
    # The files of the hub's cache are links from snapshots/REVISION to blobs/, of the model or of all of the cache.
    in_cache = root.parent.name == "snapshots" and (root.parent.parent / "blobs").is_dir()
    allowed = [above / "blobs" for above in root.parents[1:3]] if in_cache else [root]
    outside = os.path.isfile(path) and not any(path.resolve().is_relative_to(place) for place in allowed)
    if outside or name in ("", ".", "..") or Path(name).name != name:
        raise CheckpointError(f"{folder} names the shard {name!r}, which is outside of the folder: refused")
    if not os.path.isfile(path) and not may_be_missing:
        raise CheckpointError(f"{folder} lacks the shard {name!r} that its index names: copy the checkpoint again")
    return path
