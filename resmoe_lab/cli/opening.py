"""Verbs that open the workbench."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from .._core.errors import ResmoeError
from ._app import app


@app.command
def lab() -> None:
    """Open JupyterLab at the notebooks, on this machine only."""
    import subprocess

    notebooks = Path(__file__).resolve().parents[2] / "notebooks"
    if not notebooks.is_dir():
        raise ResmoeError(f"{notebooks} is missing: run this command from a checkout of the repository")
    command = [sys.executable, "-m", "jupyter", "lab", "--ip=127.0.0.1", f"--notebook-dir={notebooks}"]
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        command.append("--allow-root")  # containers run as root, and the server listens to this machine only
    raise SystemExit(subprocess.call(command))


@app.command(name="app")
def serve(
    checkpoint: str = "mixtral-tiny",
    *,
    host: Annotated[str, Parameter(help="Address that it listens at; only this machine unless told otherwise.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, Parameter(help="Port that it listens at.")] = 8866,
    browser: Annotated[bool, Parameter(help="Open a browser there.")] = True,
) -> None:
    """Serve the panels as an app, behind a token that is printed with the address."""
    import subprocess

    from ..checkpoint import open_checkpoint
    from ..workbench.serving import app_command, app_environment, write_app

    open_checkpoint(checkpoint)
    # A relative folder means one of where the command was typed.
    source = str(Path(checkpoint).absolute()) if Path(checkpoint).is_dir() else checkpoint
    with tempfile.TemporaryDirectory(prefix="resmoe-app-") as folder:
        notebook = write_app(Path(folder), source, here=Path.cwd())
        command = app_command(notebook, host=host, port=port, browser=browser)
        raise SystemExit(subprocess.call(command, env=app_environment()))
