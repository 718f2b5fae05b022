"""Checkpoints of the hub: configs and headers at once, weight files only when a tensor of theirs is needed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .._core.errors import CheckpointError

#: Everything but weights and code.
_SMALL = ["*.json", "tokenizer.model", "spiece.model", "*.txt", "*.jinja"]


def fetch_snapshot(hub_id: str) -> Path:
    """Fetch the small files of a hub's checkpoint; return their folder in the hub's cache, named by its commit.

    Raises
    ------
    CheckpointError
        If the hub does not give it.
    """
    from huggingface_hub import snapshot_download

    with _hub_errors(hub_id):
        return Path(snapshot_download(hub_id, allow_patterns=_SMALL))


def fetch_file(hub_id: str, path: Path) -> None:
    """Fetch one file of a snapshot into its place, unless it is there."""
    from huggingface_hub import hf_hub_download

    if not path.is_file():
        with _hub_errors(hub_id):
            hf_hub_download(hub_id, path.name, revision=path.parent.name)


def fetch_header(hub_id: str, path: Path) -> dict[str, dict[str, Any]]:
    """Read the header of a snapshot's safetensors file without fetching the file."""
    from huggingface_hub import HfApi

    with _hub_errors(hub_id):
        found = HfApi().parse_safetensors_file_metadata(hub_id, path.name, revision=path.parent.name)
    return {
        name: {"dtype": tensor.dtype, "shape": tensor.shape, "data_offsets": tensor.data_offsets}
        for name, tensor in found.tensors.items()
    }


def has_file(hub_id: str, path: Path) -> bool:
    """Whether a file is in the snapshot, here or on the hub."""
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
            f"checkpoint {hub_id!r} is no local folder, and the hub did not give it ({reason}): "
            "check the name, or the network and HF_HUB_OFFLINE"
        ) from error
