"""The app, served as a user would, for one test."""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from resmoe_lab.workbench.serving import app_command, app_environment, write_app

from .lab import free_port


@contextmanager
def running_app(folder: Path, checkpoint: str) -> Iterator[str]:
    """Serve the app of a checkpoint, and yield the address with its token."""
    port = free_port()
    notebook = write_app(folder, checkpoint, here=folder)
    places = {"CONFIG_DIR": "config", "DATA_DIR": "data", "RUNTIME_DIR": "runtime"}
    environment = app_environment() | {f"JUPYTER_{name}": str(folder / place) for name, place in places.items()}
    log = folder / "voila.log"
    with log.open("wb") as stream:
        command = app_command(notebook, host="127.0.0.1", port=port, browser=False)
        server = subprocess.Popen(command, env=environment, stdout=stream, stderr=stream)
        try:
            yield _address(server, log)
        finally:
            server.terminate()
            try:
                server.wait(20)
            except subprocess.TimeoutExpired:
                server.kill()


def _address(server: subprocess.Popen[bytes], log: Path) -> str:
    end = time.monotonic() + 120
    while time.monotonic() < end:
        text = log.read_text(errors="replace")
        assert server.poll() is None, text[-2000:]
        if match := re.search(r"http://127\.0\.0\.1:\d+/\?token=\w+", text):
            return match[0]
        time.sleep(0.3)
    raise AssertionError(f"Voila did not start: {log.read_text(errors='replace')[-2000:]}")
