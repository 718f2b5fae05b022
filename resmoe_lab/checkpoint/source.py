"""From what the user typed to a folder on disk: a zoo name, a local folder, or a hub id."""

from __future__ import annotations

import re
from pathlib import Path

from .. import zoo
from .._core.errors import CheckpointError

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_WANTED = ["*.json", "*.safetensors", "tokenizer.model", "*.txt", "*.jinja"]


def resolve(source: str | Path) -> Path:
    """Return the folder of a checkpoint, fetching it from the hub where the text is a hub id.

    Raises
    ------
    CheckpointError
        If it is none of the three.
    """
    if isinstance(source, str) and source in zoo.names():
        return zoo.folder(source)
    path = Path(source).expanduser()
    if path.is_dir():
        return path
    if path.exists():
        raise CheckpointError(f"{path} is a file, expected the checkpoint's folder: pass the folder that holds it")
    if isinstance(source, str) and _HUB_ID.fullmatch(source) and not source.startswith("."):
        return _from_hub(source)
    raise CheckpointError(
        f"checkpoint {str(source)!r} not found: expected a zoo name ({', '.join(zoo.names())}), "
        "a local folder, or a hub id such as 'mistralai/Mixtral-8x7B-v0.1'"
    )


def _from_hub(hub_id: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(hub_id, allow_patterns=_WANTED))
    except (LocalEntryNotFoundError, HfHubHTTPError, HFValidationError, OSError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise CheckpointError(
            f"checkpoint {hub_id!r} is no local folder, and the hub did not give it ({reason}): "
            "check the name, or the network and HF_HUB_OFFLINE"
        ) from error
