"""The manifest: where a compressed checkpoint comes from, how it was made, and what it lost."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import torch

from .._core.errors import OutputError
from ..checkpoint import Checkpoint

MANIFEST_FILE = "resmoe_manifest.json"


def checkpoint_hash(checkpoint: Checkpoint) -> str:
    """BLAKE2 hash of the config and of every weight file, in the order of their names."""
    digest = hashlib.blake2b(digest_size=16)
    files = {info.file for info in checkpoint.tensors.values()}
    for path in [checkpoint.folder / "config.json", *sorted(files)]:
        with path.open("rb") as stream:
            while chunk := stream.read(1 << 24):
                digest.update(chunk)
    return digest.hexdigest()


def permutation_hash(permutations: torch.Tensor) -> str:
    """BLAKE2 hash of a layer's permutations as little-endian int64."""
    array = permutations.cpu().numpy().astype("<i8")
    return hashlib.blake2b(array.tobytes(), digest_size=16).hexdigest()


def open_output(folder: Path, settings: dict[str, Any]) -> dict[str, Any]:
    """Return the manifest that a run into a folder goes on with: a new one, or that of the same run, unfinished.

    Parameters
    ----------
    folder
        The output folder; made if it is not there.
    settings
        What decides the result. A folder made with other settings is left alone.

    Raises
    ------
    OutputError
        If the folder holds something else.
    """
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"{folder} is a file, expected a new or empty folder: name another place")
    path = folder / MANIFEST_FILE
    if path.is_file():
        try:
            manifest = json.loads(path.read_text("utf-8"))
            found = {name: manifest["settings"].get(name) for name in settings}
        except (ValueError, KeyError, AttributeError) as error:
            raise OutputError(f"{path} is damaged ({error!r}): remove {folder} and start again") from error
        if found != settings:
            different = [
                f"{name} {found[name]!r} (now {settings[name]!r})" for name in settings if found[name] != settings[name]
            ]
            raise OutputError(f"{folder} holds another result, made with {', '.join(different)}: name another place")
        return manifest
    if folder.is_dir() and any(folder.iterdir()):
        raise OutputError(f"{folder} holds something else (no {MANIFEST_FILE}), expected a new or empty folder")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder} cannot be made ({error.strerror}): name another place") from error
    return {"settings": settings, "layers": {}, "finished": False}
