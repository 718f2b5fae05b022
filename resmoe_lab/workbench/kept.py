"""Results of earlier runs, which panels open with."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from .. import zoo
from .._core.errors import DataError
from ..checkpoint import Checkpoint
from ..experiments.sweep import Sweep
from ..store.manifest import checkpoint_hash

#: Where the sweep that comes with a model of the zoo lies in its folder.
ZOO_SWEEP = "sweep"


@dataclass(frozen=True, eq=False)
class KeptSweep:
    """A finished sweep of a model.

    Parameters
    ----------
    sweep
        Its tables.
    place
        What it is called: its folder, or that it came with the package.
    date
        When it was measured.
    """

    sweep: Sweep
    place: str
    date: datetime


def newest_sweep(checkpoint: Checkpoint, folder: Path | None = None) -> KeptSweep | None:
    """Return the newest finished sweep of a model, of those in a folder and the one that comes with the package.

    Parameters
    ----------
    checkpoint
        The model; sweeps of other weights are passed over.
    folder
        Where sweeps' folders are looked for; the working folder if not given.
    """
    folder = Path.cwd() if folder is None else folder
    own = checkpoint_hash(checkpoint)
    found = [kept for path in folder.glob("*/sweep.json") if (kept := _kept(path.parent, path.parent.name, own))]
    if not found and checkpoint.name in zoo.names():
        return _kept(zoo.folder(checkpoint.name) / ZOO_SWEEP, "the sweep that comes with the package", own)
    return max(found, key=lambda kept: kept.date, default=None)


def _kept(folder: Path, name: str, checkpoint: str) -> KeptSweep | None:
    """The sweep of a folder, if it is finished and of these weights."""
    try:
        sweep = Sweep.load(folder)
    except DataError:  # unfinished, damaged or of another version: not what is looked for
        return None
    if (sweep.facts.get("settings") or {}).get("checkpoint_hash") != checkpoint:
        return None
    try:
        date = datetime.fromisoformat(str(sweep.facts.get("date")))
    except ValueError:
        return None
    return KeptSweep(sweep, name, date if date.tzinfo else date.replace(tzinfo=UTC))
