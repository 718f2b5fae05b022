"""Panels in a real JupyterLab: sliders, files, a sweep that is stopped and resumed, and the memory it takes."""

from __future__ import annotations

import re
from pathlib import Path

import psutil
import pytest
from playwright.sync_api import Browser, Page

from resmoe_lab.checkpoint import Checkpoint
from resmoe_lab.fusion import MLPNet, save_network

from ..experts import pico
from ..fusion.test_images import write_mnist
from .lab import running_lab
from .notebooks import HANDLE, move_slider, picture, run_notebook, slide, wait_for_another, write_notebook

pytestmark = pytest.mark.browser
_ERRORS = (
    "from resmoe_lab import workbench\n"
    "workbench.errors({checkpoint!r}, methods=['up', 'svd', 'resmoe-up', 'resmoe-svd'])"
)
_SWEEP = (
    "from resmoe_lab import workbench\n"
    "workbench.sweep({checkpoint!r}, out={out!r}, methods=['up', 'resmoe-up'], keeps=[0.1, 0.25, 0.5], limit=24)"
)
_FUSION = "from resmoe_lab import workbench\nworkbench.fusion({first!r}, {second!r}, data_dir={data!r})"
_MOVES, _MOST_BYTES = 100, 30_000_000


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory, tiny: Checkpoint) -> object:
    folder = tmp_path_factory.mktemp("lab")
    notebooks, small = folder / "notebooks", str(pico.save(pico.mixtral(), folder / "pico"))
    write_notebook(notebooks, "errors.ipynb", _ERRORS.format(checkpoint=small))
    sweep = _SWEEP.format(checkpoint=str(tiny.folder), out=str(folder / "sweep"))
    write_notebook(notebooks, "sweep.ipynb", sweep)
    first, second = (str(save_network(MLPNet((784, 20, 10)), folder / f"{name}.safetensors")) for name in "ab")
    write_notebook(notebooks, "fusion.ipynb", _FUSION.format(first=first, second=second, data=str(write_mnist(folder))))
    with running_lab(folder, notebooks) as address:
        yield address


@pytest.fixture
def page(browser: Browser) -> object:
    page = browser.new_page(viewport={"width": 1500, "height": 1200})
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    yield page
    page.close()
    assert complaints == []


def test_sliders_follow_keys_and_mouse_and_cost_no_memory(page: Page, lab: str) -> None:
    run_notebook(page, lab, "errors.ipynb")
    assert len(set(move_slider(page))) == 3
    assert re.search(
        r"at kept fraction 0\.\d+: resmoe-up 0\.", str(page.locator("img.resmoe-picture").get_attribute("alt"))
    )
    with page.expect_download() as saved:
        page.get_by_role("button", name="errors CSV").click()
    assert saved.value.suggested_filename.endswith("-errors-errors.csv")
    assert Path(saved.value.path()).read_text().startswith("layer,method,center,keep")
    page.get_by_role("button", name="equal bytes").click()
    assert len(set(move_slider(page, handle=1))) == 3
    page.get_by_role("button", name="equal keep").click()

    kernels = [p for p in psutil.Process().children(recursive=True) if "ipykernel" in " ".join(p.cmdline())]
    kernel = max(kernels, key=lambda process: process.create_time())  # other tests may have left theirs
    session = page.context.new_cdp_session(page)
    slide(page, 20)
    before = kernel.memory_info().rss, _heap(session)
    slide(page, _MOVES)
    grown = [now - then for now, then in zip((kernel.memory_info().rss, _heap(session)), before, strict=True)]
    assert max(grown) < _MOST_BYTES, f"kernel and page grew by {grown} bytes"


def _heap(session: object) -> int:
    session.send("HeapProfiler.collectGarbage")
    return int(session.send("Runtime.getHeapUsage")["usedSize"])


def test_two_networks_are_mixed_with_the_keyboard(page: Page, lab: str) -> None:
    run_notebook(page, lab, "fusion.ipynb")
    assert len(set(move_slider(page))) == 3
    page.get_by_text(re.compile(r"The OT average has \d")).wait_for()
    assert "by class; at 0." in str(page.locator("img.resmoe-picture").get_attribute("alt"))


def test_a_sweep_is_forecast_stopped_and_resumed(page: Page, lab: str) -> None:
    run_notebook(page, lab, "sweep.ipynb")
    page.get_by_role("button", name="Forecast").click()
    page.wait_for_selector("text=/8 scores; each takes about/")
    page.get_by_role("button", name="Run", exact=True).click()
    page.wait_for_selector("text=/scores [2-5] of 8/")
    page.get_by_role("button", name="Stop").click()
    page.wait_for_selector("text=/Stopped: \\d scores are kept in/")
    page.get_by_role("button", name="Resume").click()
    page.wait_for_selector("text=/with a keep for each layer/", timeout=300_000)
    old = picture(page, 1)
    page.locator(HANDLE).first.focus()
    page.keyboard.press("ArrowRight")
    wait_for_another(page, old, 1)
    assert page.locator(".jp-RenderedText[data-mime-type='application/vnd.jupyter.stderr']").count() == 0
