"""Records that come with the embedded models, so that their panels show a picture at once."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from .. import zoo
from ..checkpoint import Checkpoint
from ..store.manifest import checkpoint_hash
from .cache import CachedResult
from .record_file import load_record, save_record
from .views import View

#: Where the records lie in a model's folder, one file for each panel at its default settings.
SHIPPED_FOLDER = "panels"
#: Raised when a panel computes or stores something else than before: records of another version are passed over.
SHIPPED_VERSION = 1


#: The record that the fusion panel shows before it is given networks.
FUSION_EXAMPLE = Path(__file__).with_name("fusion_example.npz")


@dataclass(frozen=True, eq=False)
class ShippedRecord:
    """A panel's record, with what it is the record of.

    Parameters
    ----------
    version
        The :data:`SHIPPED_VERSION` that wrote it.
    checkpoint
        :func:`~resmoe_lab.store.manifest.checkpoint_hash` of the model.
    key
        What the panel was asked, as Python writes it.
    date
        When it was computed, in ISO form.
    record
        The record.
    """

    version: int
    checkpoint: str
    key: str
    date: str
    record: View


def shipped_path(name: str, panel: str) -> Path:
    """Return where the record of a panel lies for a model of the zoo, whether there is one or not."""
    return zoo.folder(name) / SHIPPED_FOLDER / f"{panel}.npz"


def shipped_record(checkpoint: Checkpoint, panel: str, key: Hashable) -> CachedResult[View] | None:
    """Return the record that came with a model for what a panel is asked; None if there is none.

    Parameters
    ----------
    checkpoint
        The model: a record of other weights is passed over, as is one of another version, or a damaged one.
    panel
        The panel's name.
    key
        What it is asked.
    """
    if checkpoint.name not in zoo.names():
        return None
    found: ShippedRecord | None = load_record(shipped_path(checkpoint.name, panel), ShippedRecord)
    if found is None or not isinstance(found.record, View):
        return None
    if (found.key, found.checkpoint) != (repr(key), checkpoint_hash(checkpoint)):
        return None
    return _as_result(found)


def fusion_example() -> CachedResult[View] | None:
    """Return the record that the fusion panel shows before it is given networks; None if it is damaged."""
    found: ShippedRecord | None = load_record(FUSION_EXAMPLE, ShippedRecord)
    return None if found is None or not isinstance(found.record, View) else _as_result(found)


def _as_result(found: ShippedRecord) -> CachedResult[View] | None:
    if found.version != SHIPPED_VERSION:
        return None
    try:
        date = datetime.fromisoformat(found.date).astimezone().replace(tzinfo=None)
    except (TypeError, ValueError):
        return None
    return CachedResult(found.record, date, 0.0, fresh=False, place="came with the package")


def ship_record(checkpoint: Checkpoint, panel: str, key: Hashable, record: View) -> Path:
    """Write a record to where :func:`shipped_record` finds it; return its file."""
    path = shipped_path(checkpoint.name, panel)
    _write(path, record, checkpoint=checkpoint_hash(checkpoint), key=repr(key))
    return path


def ship_fusion_example(record: View) -> Path:
    """Write the record that :func:`fusion_example` finds; return its file."""
    _write(FUSION_EXAMPLE, record, checkpoint="", key="")
    return FUSION_EXAMPLE


def _write(path: Path, record: View, *, checkpoint: str, key: str) -> None:
    now = datetime.now(UTC).isoformat(timespec="seconds")
    save_record(ShippedRecord(SHIPPED_VERSION, checkpoint, key, now, record), path, short=True)
