"""The verb that opens JupyterLab."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from .._core.errors import ResmoeError
from ._app import app
from ._server import run_server


@app.command
def lab() -> None:
    """Open JupyterLab at the notebooks, on this machine only."""
    notebooks = Path(__file__).resolve().parents[2] / "notebooks"
    if not notebooks.is_dir():
        raise ResmoeError(f"{notebooks} is missing: run this command from a checkout of the repository")
    command = [sys.executable, "-m", "jupyter", "lab", "--ip=127.0.0.1", f"--notebook-dir={notebooks}"]
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        command.append("--allow-root")  # containers run as root, and the server listens to this machine only
    raise SystemExit(run_server(command))
