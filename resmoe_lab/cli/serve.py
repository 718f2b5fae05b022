"""The verb that serves the panels as an app."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from ._app import app
from ._server import check_port, run_server


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
    from ..checkpoint import open_checkpoint
    from ..experts import moe_layers
    from ..workbench.serving import app_command, app_environment, write_app

    check_port(host, port)
    moe_layers(open_checkpoint(checkpoint))
    # A relative folder means one of where the command was typed.
    source = str(Path(checkpoint).absolute()) if Path(checkpoint).is_dir() else checkpoint
    with tempfile.TemporaryDirectory(prefix="resmoe-app-") as folder:
        notebook = write_app(Path(folder), source, here=Path.cwd())
        command = app_command(notebook, host=host, port=port, browser=browser)
        raise SystemExit(run_server(command, env=app_environment()))
