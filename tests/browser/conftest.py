"""A real browser that can reach nothing but this machine."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
]


def find_browser() -> str | None:
    """The browser named by $RESMOE_BROWSER, or the first Chromium on the path."""
    wanted = os.environ.get("RESMOE_BROWSER")
    if wanted:
        return shutil.which(wanted)
    return next((path for path in map(shutil.which, _NAMES) if path), None)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    path = find_browser()
    if path is None:
        pytest.skip(f"no browser: install one of {', '.join(_NAMES)} or set RESMOE_BROWSER to a Chromium")
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield running
        running.close()


@pytest.fixture(scope="session")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report of an invented sweep, with names that try to be markup."""
    from resmoe_lab.report import build_report

    from ..plots.synthetic import make_sweep

    return build_report(make_sweep(), tmp_path_factory.mktemp("report") / "report.html")
