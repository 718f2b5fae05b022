"""Resolution of a checkpoint's name: a zoo name, a local folder, or a hub id."""

from __future__ import annotations

import re
from pathlib import Path

from .. import zoo
from .._core.errors import CheckpointError
from .hub import fetch_snapshot

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


def resolve(source: str | Path) -> tuple[Path, str | None]:
    """Return a checkpoint's folder or GGUF file, and its hub id if it is from the hub and weights may be missing.

    Raises
    ------
    CheckpointError
        If it is none of them.
    """
    if isinstance(source, str) and source in zoo.names():
        return zoo.folder(source), None
    path = Path(source).expanduser()
    if path.is_dir() or (path.suffix == ".gguf" and path.is_file()):
        return path, None
    if path.exists():
        raise CheckpointError(f"{path} is a file, expected the checkpoint's folder: pass the folder that holds it")
    if isinstance(source, str) and _HUB_ID.fullmatch(source) and not source.startswith("."):
        return fetch_snapshot(source), source
    raise CheckpointError(
        f"checkpoint {str(source)!r} not found: expected a zoo name ({', '.join(zoo.names())}), "
        "a local folder, a GGUF file, or a hub id such as 'mistralai/Mixtral-8x7B-v0.1'"
    )
