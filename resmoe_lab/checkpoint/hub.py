"""Checkpoints of the hub: configs and headers are fetched at once, weight files only when they are needed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .._core.errors import CheckpointError

#: Files that models are opened with, whatever their tokenizer is called.
PATTERNS = (
    *("*.json", "*.jinja", "*.txt", "tokenizer*", "vocab*", "chat_template*", "additional_chat_templates/*.jinja"),
    *("*.model", "*.model.v*", "*.tiktoken", "*.spm", "LICENSE*", "LICENCE*", "NOTICE*", "USE_POLICY*"),
)
#: All files but weights.
_METADATA_FILES = [*PATTERNS, "*.py"]


def fetch_snapshot(hub_id: str) -> Path:
    """Fetch a hub checkpoint's files without its weights; return their folder in the hub's cache, named by its commit.

    Raises
    ------
    CheckpointError
        If the hub cannot provide it.
    """
    from huggingface_hub import snapshot_download

    with _hub_errors(hub_id):
        return Path(snapshot_download(hub_id, allow_patterns=_METADATA_FILES))


def fetch_file(hub_id: str, path: Path) -> None:
    """Fetch one file of a snapshot, unless it is in the cache."""
    from huggingface_hub import hf_hub_download

    if not path.is_file():
        with _hub_errors(hub_id):
            hf_hub_download(hub_id, path.name, revision=path.parent.name)


def fetch_header(hub_id: str, path: Path) -> dict[str, dict[str, Any]]:
    """Fetch the header of a snapshot's safetensors file without the file."""
    from huggingface_hub import HfApi

    with _hub_errors(hub_id):
        metadata = HfApi().parse_safetensors_file_metadata(hub_id, path.name, revision=path.parent.name)
    return {
        name: {"dtype": tensor.dtype, "shape": tensor.shape, "data_offsets": tensor.data_offsets}
        for name, tensor in metadata.tensors.items()
    }


def has_file(hub_id: str, path: Path) -> bool:
    """Whether a snapshot has a file, in the cache or on the hub."""
    from huggingface_hub import HfApi

    if path.is_file():
        return True
    with _hub_errors(hub_id):
        return HfApi().file_exists(hub_id, path.name, revision=path.parent.name)


@contextmanager
def _hub_errors(hub_id: str) -> Iterator[None]:
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        yield
    except (LocalEntryNotFoundError, HfHubHTTPError, HFValidationError, OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise CheckpointError(
            f"checkpoint {hub_id!r} is no local folder, and the hub did not provide it ({reason}): "
            "check the name, or the network and HF_HUB_OFFLINE"
        ) from error
