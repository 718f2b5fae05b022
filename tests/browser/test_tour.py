"""The first notebook in a real JupyterLab: run every cell, move the sliders, see the pictures change."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page

from resmoe_lab.checkpoint import Checkpoint

from .lab import running_lab

pytestmark = pytest.mark.browser
_TOUR = Path(__file__).resolve().parents[2] / "notebooks" / "00_tour.ipynb"
_READY = "window.jupyterapp?.shell?.currentWidget?.sessionContext?.isReady"
_PICTURE = "img.resmoe-picture"


def _run_all(page: Page, address: str) -> None:
    page.goto(f"{address}/lab/tree/{_TOUR.name}")
    page.wait_for_function(_READY)
    page.evaluate("window.jupyterapp.commands.execute('notebook:run-all-cells')")
    page.wait_for_selector(".widget-slider .noUi-handle", timeout=240_000)


def test_the_tour_runs_and_its_sliders_move_the_pictures(browser: Browser, tiny: Checkpoint, tmp_path: Path) -> None:
    notebooks = tmp_path / "notebooks"
    notebooks.mkdir()
    shutil.copy(_TOUR, notebooks)
    with running_lab(tmp_path, notebooks) as address:
        page = browser.new_page(viewport={"width": 1500, "height": 1000})
        page.set_default_timeout(60_000)
        _run_all(page, address)
        page.wait_for_function(f"document.querySelector('{_PICTURE}')?.naturalWidth > 100", timeout=240_000)
        page.wait_for_selector("text=/relative error 0\\.\\d+/")
        picture = page.locator(_PICTURE).first
        before, message = picture.get_attribute("src"), page.locator("text=/relative error 0\\./").last.inner_text()
        assert page.locator(".resmoe-map g[role=option]").count() == 4, "the map of the whole model comes first"
        panel = page.locator(".resmoe-panel", has=page.locator(_PICTURE))
        handle = panel.locator(".widget-slider .noUi-handle").first
        handle.focus()
        for _ in range(4):
            page.keyboard.press("ArrowRight")
        page.wait_for_function("(old) => document.querySelector('img.resmoe-picture').src !== old", arg=before)
        page.wait_for_selector("text=/keep 0\\.45: relative error/")
        assert page.locator("text=/keep 0\\.45: relative error/").last.inner_text() != message
        assert page.locator(".jp-RenderedText[data-mime-type='application/vnd.jupyter.stderr']").count() == 0
        _move_chart(page)
        page.close()


def _move_chart(page: Page) -> None:
    """The chart's own slider, which needs no kernel."""
    chart = page.locator(".resmoe-chart", has_text="Relative approximation error").first
    chart.scroll_into_view_if_needed()
    before = chart.locator("svg.marks").evaluate("(svg) => svg.outerHTML")
    # JupyterLab's own shortcuts would take the arrow keys, were they not kept from it.
    chart.locator("input[type=range][name=keep]").focus()
    page.keyboard.press("ArrowRight")
    page.wait_for_function(
        "([id, old]) => document.querySelector(`#${id} svg.marks`).outerHTML !== old",
        arg=[chart.get_attribute("id"), before],
    )
    assert "at 30% kept" in chart.inner_text()
