"""The app in a real browser: behind its token, its panels live."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page

from .notebooks import move_slider, picture
from .voila import running_app

pytestmark = pytest.mark.browser
#: What axe finds in the widgets that ipywidgets draws, which are not ours.
WIDGETS = {"aria-input-field-name"}  # handles of sliders


def test_the_panels_of_the_app_are_alive(browser: Browser, tmp_path: Path) -> None:
    with running_app(tmp_path, "mixtral-tiny") as address:
        bare = address.split("?")[0]
        with urlopen(bare) as answer:
            assert "/login" in answer.url, "without the token there is nothing but the question for it"
        with pytest.raises(HTTPError, match="403"):
            urlopen(Request(f"{bare}api/kernels", method="POST"))
        page = browser.new_page(viewport={"width": 1400, "height": 1600})
        page.set_default_timeout(240_000)
        requests: list[str] = []
        complaints: list[str] = []
        page.on("request", lambda request: requests.append(request.url))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda line: complaints.append(line.text) if line.type == "error" else None)
        page.goto(address, wait_until="commit")
        _choose_a_layer_in_the_map(page)
        # anywidget waits two seconds for a widget, which a busy machine may need to begin; the page waits longer.
        assert not page.evaluate(
            "() => new Promise((done) => { const signal = AbortSignal.timeout(1); "
            "setTimeout(() => done(signal.aborted), 100); })"
        )
        page.get_by_role("tab", name="Experts").click()
        picture(page)
        page.get_by_role("tab", name="Error curves").click()
        page.locator("img.resmoe-picture:visible").first.wait_for()
        page.evaluate(
            "document.querySelectorAll('img.resmoe-picture').forEach("
            "(image) => { if (!image.offsetParent) image.classList.remove('resmoe-picture'); })"
        )
        slider = page.locator(".widget-slider .noUi-handle").evaluate_all(
            "(handles) => handles.findIndex((handle) => handle.offsetParent)"
        )
        assert len(set(move_slider(page, handle=slider))) == 3
        _learn_and_weigh(page)
        _read_tokens(page)
        # The page around the panels is Voila's; what is ours is judged.
        violations = Axe().run(page, ".resmoe-app").response["violations"]
        serious = [
            (found["id"], node["html"][:120])
            for found in violations
            for node in found["nodes"]
            if found["impact"] in ("serious", "critical") and found["id"] not in WIDGETS
        ]
        assert serious == []
        elsewhere = [
            url for url in requests if not url.startswith((bare, bare.replace("http", "ws", 1), "data:", "blob:"))
        ]
        assert elsewhere == []
        assert complaints == []
        page.close()


def _choose_a_layer_in_the_map(page: Page) -> None:
    """The map is there first; the arrow keys choose a layer for all panels, and a form changes the picture."""
    rows = page.locator(".resmoe-map g[role=option]")
    rows.first.wait_for()
    assert rows.count() == 4
    rows.first.focus()
    page.keyboard.press("ArrowDown")
    page.get_by_text(re.compile("^layer 1 is chosen")).wait_for()
    widths = "[...document.querySelectorAll('.resmoe-map rect')].map((rect) => rect.getAttribute('width')).join()"
    before = page.evaluate(widths)
    page.locator(".resmoe-map-bar select").first.select_option("0")
    assert page.evaluate(widths) != before


def _read_tokens(page: Page) -> None:
    """A chosen token tells what both models say after it, and in which layer; keys move on."""
    page.get_by_role("tab", name="Tokens").click()
    tokens = page.locator(".resmoe-tokens-text span")
    tokens.nth(3).click()
    page.get_by_text(re.compile("^After token 3,")).wait_for()
    page.locator(".resmoe-tokens-layers td", has_text="%").nth(1).wait_for()
    page.keyboard.press("ArrowRight")
    page.get_by_text(re.compile("^After token 4,")).wait_for()
    page.locator(".resmoe-tokens-bar select").select_option("before")
    assert "expert" in str(tokens.nth(3).get_attribute("title"))


def _learn_and_weigh(page: Page) -> None:
    """Barycenters are trained before one's eyes, and then follow the slider of the weights."""
    page.get_by_role("tab", name="Barycenters").click()
    shown = page.locator("img.resmoe-picture:visible")
    shown.first.wait_for()
    assert re.match(r"The barycenter at equal weights after \d+ of 300 steps", str(shown.first.get_attribute("alt")))
    steps = page.locator("input[type=number]:visible")
    steps.fill("10")
    steps.press("Enter")
    page.get_by_text("10 outer iterations in").wait_for()
    assert shown.count() == 2
    before = shown.first.get_attribute("src")
    page.locator(".widget-slider .noUi-handle:visible").focus()
    page.keyboard.press("ArrowRight")
    page.get_by_text(re.compile(r"0\.55 : 0\.2")).wait_for()
    page.wait_for_function("(old) => ![...document.images].some((image) => image.src === old)", arg=before)
    assert "at weights 0.55 : 0.2" in str(shown.first.get_attribute("alt"))
