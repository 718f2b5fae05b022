"""Where a compressed checkpoint comes from: its manifest, and the original that it was made of."""

from __future__ import annotations

import json
from typing import Any

from .._core.errors import CheckpointError, UsageError
from ..checkpoint import Checkpoint, open_checkpoint
from ..store.manifest import MANIFEST_FILE, checkpoint_hash


def settings_of(checkpoint: Checkpoint) -> dict[str, Any]:
    """Return what the manifest says of how a form was made.

    Raises
    ------
    CheckpointError
        If there is no manifest, or it is damaged.
    """
    path = checkpoint.folder / MANIFEST_FILE
    if not path.is_file():
        raise CheckpointError(f"{checkpoint.folder} has no {MANIFEST_FILE}, expected the output of resmoe-lab compress")
    settings = manifest_of(checkpoint).get("settings")
    if not isinstance(settings, dict):
        raise CheckpointError(f"{path} has no settings: compress the model again")
    return settings


def manifest_of(checkpoint: Checkpoint) -> dict[str, Any]:
    """Return the manifest of a form.

    Raises
    ------
    CheckpointError
        If it is damaged.
    """
    try:
        manifest = json.loads((checkpoint.folder / MANIFEST_FILE).read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{checkpoint.folder / MANIFEST_FILE} is damaged ({error!r}): copy it again") from error
    return manifest if isinstance(manifest, dict) else {}


def original_of(form: Checkpoint, named: str | None = None) -> Checkpoint | None:
    """Return the source of a form: where it was named, or where the manifest says, if its weights are still those.

    Raises
    ------
    CheckpointError
        If the form has no manifest, or there is no checkpoint of that name.
    UsageError
        If the named one is another model.
    """
    settings = settings_of(form)
    try:
        opened = open_checkpoint(named or str(settings.get("checkpoint")))
    except CheckpointError:
        if named is not None:
            raise
        return None
    if checkpoint_hash(opened) != settings.get("checkpoint_hash"):
        if named is not None:
            raise UsageError(f"{named} is not the model that the checkpoints were made of: name that one")
        return None
    return opened
