"""How soon the errors panel answers: from a key on its slider to the new picture, in JupyterLab and a real browser.

``python -m benchmarks.slider [CHECKPOINT]`` prints one line; needs the `dev` extra and a Chromium.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

import psutil
from playwright.sync_api import sync_playwright

from tests.browser.conftest import ARGUMENTS, find_browser
from tests.browser.lab import running_lab
from tests.browser.notebooks import picture, run_notebook, slide, write_notebook

MOVES = 60
_CODE = "from resmoe_lab import workbench\nworkbench.errors({checkpoint!r})"
#: A picture counts when it has been painted, not when its bytes are there.
_CLOCK = """() => {
  window.times = [];
  let began = 0;
  document.addEventListener("keydown", () => { began = performance.now(); }, true);
  document.querySelector("img.resmoe-picture").addEventListener("load", () => {
    const start = began;
    requestAnimationFrame(() => window.times.push(performance.now() - start));
  });
}"""


def measure(checkpoint: str) -> list[float]:
    """Milliseconds of every move."""
    with tempfile.TemporaryDirectory() as scratch, sync_playwright() as playwright:
        folder = Path(scratch)
        write_notebook(folder / "notebooks", "errors.ipynb", _CODE.format(checkpoint=checkpoint))
        with running_lab(folder, folder / "notebooks") as address:
            browser: Any = playwright.chromium.launch(executable_path=find_browser(), args=ARGUMENTS)
            page = browser.new_page(viewport={"width": 1500, "height": 1200})
            run_notebook(page, address, "errors.ipynb")
            picture(page)
            slide(page, 10)
            page.evaluate(_CLOCK)
            slide(page, MOVES)
            times = page.evaluate("times")
            browser.close()
    return times


if __name__ == "__main__":
    name = sys.argv[1] if len(sys.argv) > 1 else "mixtral-tiny"
    times = sorted(measure(name))
    print(
        f"errors panel of {name}, {len(times)} moves: median {statistics.median(times):.0f} ms, fastest "
        f"{times[0]:.0f}, slowest {times[-1]:.0f}; load {psutil.getloadavg()[0]:.1f} on {psutil.cpu_count()} cores"
    )
