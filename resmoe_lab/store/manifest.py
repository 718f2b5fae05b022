"""The manifest: where a compressed checkpoint comes from, how it was made, and what it lost."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import torch

from .._core.errors import CheckpointError, OutputError
from .._core.files import check_place, is_partial_file, make_folder
from .._core.parsing import read_json
from ..checkpoint import Checkpoint
from ..checkpoint.reader import data_start

MANIFEST_FILE = "resmoe_manifest.json"


#: What every manifest holds, finished or not; one of a sweep, or of version 0.1.0, has no files.
_KINDS: dict[str, type] = {"settings": dict, "layers": dict, "finished": bool, "files": dict}
#: Files up to this size are hashed whole; of larger ones, one block in so many bytes.
_WHOLE, _BLOCK, _EVERY = 1 << 26, 1 << 12, 1 << 22


def checkpoint_hash(checkpoint: Checkpoint) -> str:
    """BLAKE2 hash of the config and of every weight file, of which large ones are read in samples.

    It tells another model, another revision or another training apart, since those change every sampled block, and
    it sees every header; that a single tensor of a file over 64 MiB was changed it may miss. A compressed layer's
    ``source_hash`` in the manifest is of every byte that went into it. A checkpoint of the hub has the hash of its
    commit, which stands for every byte.
    """
    if checkpoint.hub_id is not None:
        return checkpoint.folder.name
    digest = hashlib.blake2b(digest_size=16)
    if checkpoint.config_file is not None:
        digest.update(checkpoint.config_file.read_bytes())
    for path in checkpoint.files:
        size = path.stat().st_size
        digest.update(f"{path.name} {size}".encode())
        with path.open("rb") as stream:
            if size <= _WHOLE:
                digest.update(stream.read())
                continue
            begin = data_start(path)
            stream.seek(8)  # what stands before says how long the header is, or what the file is
            digest.update(stream.read(begin - 8))
            for start in [*range(begin, size - _BLOCK, _EVERY), size - _BLOCK]:
                stream.seek(start)
                digest.update(stream.read(_BLOCK))
    return digest.hexdigest()


def permutation_hash(permutations: torch.Tensor) -> str:
    """BLAKE2 hash of a layer's permutations as little-endian int64."""
    array = permutations.cpu().numpy().astype("<i8")
    return hashlib.blake2b(array.tobytes(), digest_size=16).hexdigest()


def read_manifest(folder: Path) -> dict[str, Any]:
    """Return the manifest of a folder, whose settings, layers and files are what they have to be.

    Raises
    ------
    CheckpointError
        If it is missing or damaged.
    """
    path = folder / MANIFEST_FILE
    try:
        manifest = read_json(path)
        kinds = {name: type(manifest.get(name, kind())) for name, kind in _KINDS.items()}
        wrong = next((name for name, kind in _KINDS.items() if kinds[name] is not kind), None)
        if wrong is not None:
            raise ValueError(f"{wrong} is a {kinds[wrong].__name__}, expected {_KINDS[wrong].__name__}")
    except (ValueError, AttributeError, OSError) as error:
        raise CheckpointError(f"{path} is damaged ({error}): copy it again") from error
    return {name: kind() for name, kind in _KINDS.items() if name != "files"} | manifest


def open_output(folder: Path, settings: dict[str, Any]) -> dict[str, Any]:
    """Make the output folder where it is not there, and return the manifest as :func:`found_manifest` does.

    Raises
    ------
    OutputError
        If the folder holds something else or cannot be made.
    """
    manifest = found_manifest(folder, settings)
    check_place(folder)
    make_folder(folder)
    return manifest


def check_output(folder: Path) -> None:
    """Refuse an output folder that is none of ours and not empty; it need not be there.

    Raises
    ------
    OutputError
        If it is a file, or holds something else.
    """
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"{folder} is a file, expected a new or empty folder: name another place")
    if not folder.is_dir() or (folder / MANIFEST_FILE).is_file():
        return
    # A run that was killed before its first layer leaves nothing but its lock and parts of files.
    if any(item.name != ".lock" and not is_partial_file(item) for item in folder.iterdir()):
        raise OutputError(f"{folder} holds something else (no {MANIFEST_FILE}), expected a new or empty folder")


def found_manifest(folder: Path, settings: dict[str, Any]) -> dict[str, Any]:
    """Return the manifest that a run into a folder goes on with: a new one, or that of the same run.

    Parameters
    ----------
    folder
        The output folder, which need not be there; nothing is written.
    settings
        What decides the result. A folder made with other settings is left alone.

    Raises
    ------
    OutputError
        If the folder holds something else.
    """
    check_output(folder)
    path = folder / MANIFEST_FILE
    if path.is_file():
        try:
            manifest = read_manifest(folder)
        except CheckpointError as error:
            raise OutputError(f"{error}, or remove {folder} and start again") from error
        stored = {name: manifest["settings"].get(name) for name in settings}
        if stored != settings:
            different = [
                f"{name} {stored[name]!r} (now {settings[name]!r})"
                for name in settings
                if stored[name] != settings[name]
            ]
            raise OutputError(f"{folder} holds another result, made with {', '.join(different)}: name another place")
        return manifest
    return {"settings": settings, "layers": {}, "finished": False}
