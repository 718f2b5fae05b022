"""The app in a real browser: behind its token, its panels live."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest
from playwright.sync_api import Browser, Page

from resmoe_lab.checkpoint import Checkpoint

from .notebooks import move_slider, picture
from .voila import running_app

pytestmark = pytest.mark.browser


def test_the_panels_of_the_app_are_alive(browser: Browser, pico_checkpoint: Checkpoint, tmp_path: Path) -> None:
    with running_app(tmp_path, str(pico_checkpoint.folder)) as address:
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
        elsewhere = [
            url for url in requests if not url.startswith((bare, bare.replace("http", "ws", 1), "data:", "blob:"))
        ]
        assert elsewhere == []
        assert complaints == []
        page.close()


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
