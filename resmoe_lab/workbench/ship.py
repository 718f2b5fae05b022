"""What comes with the embedded models: records of their panels, and the sweep that panels open with.

``python -m resmoe_lab.workbench.ship`` makes the records; given the folder of a sweep, it puts that in place too.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from .. import zoo
from .._core.errors import OutputError
from ..experiments.sweep import Sweep
from .app import TABS
from .kept import ZOO_SWEEP
from .panels import Panel
from .selection import Selection
from .shipped import ship_record

#: What a record may take in the repository and in the package.
MAX_BYTES = 1 << 18


def ship_panels(names: Sequence[str]) -> list[Path]:
    """Compute the records of all panels that keep them, at default settings; return the files that were written.

    Parameters
    ----------
    names
        Embedded models.

    Raises
    ------
    OutputError
        If a record is too large to come with the package.
    """
    kinds = [
        kind for kind in TABS.values() if isinstance(kind, type) and issubclass(kind, Panel) and kind.keeps_records
    ]
    files = []
    for name in names:
        for kind in kinds:
            panel = kind(Selection(name))
            panel.recompute()
            panel.wait()
            path = ship_record(panel.selection.checkpoint, panel.name, panel._key(), panel._view())
            if (size := path.stat().st_size) > MAX_BYTES:
                path.unlink()
                raise OutputError(
                    f"the record of panel {panel.name} of {name} takes {size:,} bytes, expected at most {MAX_BYTES:,}: "
                    "keep less in it"
                )
            files.append(path)
            panel.close()
    return files


def ship_sweep(folder: str | Path) -> Path:
    """Put the tables of a finished sweep of an embedded model into its folder; return where they are.

    Parameters
    ----------
    folder
        The sweep.
    """
    sweep = Sweep.load(folder)
    return sweep.save(zoo.folder(str(sweep.facts["model"])) / ZOO_SWEEP)


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        ship_sweep(argument)
    ship_panels([name for name in zoo.RECIPES if zoo.is_built(name)])
