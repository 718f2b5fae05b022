"""What comes with the embedded models: records of their panels, and the sweep that panels open with.

``python -m resmoe_lab.workbench.ship`` makes the records; given the folder of a sweep, it puts that in place too. The
fusion panel's example is trained on MNIST, which has to be there.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch

from .. import zoo
from .._core.errors import OutputError
from ..experiments.sweep import Sweep
from ..fusion import MLPNet, mnist, save_network, skill_split, train
from .app import TABS
from .kept import ZOO_SWEEP
from .panels import Panel
from .selection import Selection
from .shipped import ship_fusion_example, ship_record
from .views import view_fusion

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


def ship_fusion(*, data_dir: str | Path | None = None, epochs: int = 10) -> Path:
    """Train two networks of which one alone knows the digit 4, and write the record of their averages; return its file.

    Parameters
    ----------
    data_dir
        Folder where MNIST is looked for first.
    epochs
        Of each training.

    References
    ----------
    Singh and Jaggi (2020), figure 2.
    """
    parts = skill_split(mnist("train", data_dir=data_dir), (0.1, 0.9), digit=4, seed=0)
    with tempfile.TemporaryDirectory() as folder:
        files = []
        for seed, images in enumerate(parts):
            torch.manual_seed(seed)
            network = train(MLPNet(), images, epochs=epochs, seed=seed)
            files.append(save_network(network, Path(folder) / f"{seed}.safetensors"))
        view = view_fusion(*files, by="activations", data_dir=data_dir)
    return ship_fusion_example(view)


if __name__ == "__main__":
    ship_fusion()
    for argument in sys.argv[1:]:
        ship_sweep(argument)
    ship_panels([name for name in zoo.RECIPES if zoo.is_built(name)])
