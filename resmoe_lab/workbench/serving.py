"""The panels as an app: a notebook of one cell, served by Voila."""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec
from pathlib import Path

from .._core.errors import ResmoeError

#: How many kernels wait for visitors.
POOL_SIZE = 1
_CELL = """import os

os.chdir({here!r})
from resmoe_lab.workbench import Workbench

app = Workbench({checkpoint!r})
app.prefetch()
app"""


def write_app(folder: Path, checkpoint: str, *, here: Path) -> Path:
    """Write the app's notebook.

    Parameters
    ----------
    folder
        Folder it is written into.
    checkpoint
        Checkpoint it opens.
    here
        Working folder, which relative paths such as those of sweeps refer to.
    """
    import nbformat

    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    cell = nbformat.v4.new_code_cell(_CELL.format(here=str(here), checkpoint=checkpoint))
    path = folder / "resmoe-lab.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=[cell], metadata={"kernelspec": kernel}), path)
    return path


def app_command(notebook: Path, *, host: str, port: int, browser: bool) -> list[str]:
    """Return the command that serves the app behind an access token.

    Parameters
    ----------
    notebook
        Path of the notebook that :func:`write_app` wrote.
    host, port
        Address and port to listen at.
    browser
        Open a browser there.

    Raises
    ------
    ResmoeError
        If Voila is not installed.
    """
    if find_spec("voila") is None:
        raise ResmoeError("the app needs Voila, which is not installed: pip install 'resmoe-lab[app]'")
    options = [
        f"--Voila.ip={host}",
        f"--port={port}",
        "--Voila.port_retries=0",
        "--Voila.auto_token=True",
        "--theme=light",
        "--template=resmoe",
        # A kernel that has imported everything and computed the first picture waits for the next visitor.
        "--preheat_kernel=True",
        f"--pool_size={POOL_SIZE}",
    ]
    # A visitor can do nothing with a traceback; panels show errors in one line.
    options += ["--VoilaConfiguration.show_tracebacks=False", *([] if browser else ["--no-browser"])]
    return [sys.executable, "-m", "voila", str(notebook), *options]


def app_environment() -> dict[str, str]:
    """Return the environment in which Voila finds the app's page template, which needs no other server."""
    paths = [str(Path(__file__).with_name("jupyter")), os.environ.get("JUPYTER_PATH", "")]
    return os.environ | {"JUPYTER_PATH": os.pathsep.join(path for path in paths if path)}
