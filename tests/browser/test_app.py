"""The app in a real browser: behind its token, its panels live."""

from __future__ import annotations

from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest
from playwright.sync_api import Browser

from resmoe_lab.checkpoint import Checkpoint

from .notebooks import move_slider, picture
from .voila import running_app

pytestmark = pytest.mark.browser


def test_the_panels_of_the_app_are_alive(browser: Browser, tiny: Checkpoint, tmp_path: Path) -> None:
    with running_app(tmp_path, str(tiny.folder)) as address:
        bare = address.split("?")[0]
        with urlopen(bare) as answer:
            assert "/login" in answer.url, "without the token there is nothing but the question for it"
        with pytest.raises(HTTPError, match="403"):
            urlopen(Request(f"{bare}api/kernels", method="POST"))
        page = browser.new_page(viewport={"width": 1400, "height": 1600})
        page.set_default_timeout(240_000)
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.goto(address, wait_until="commit")
        picture(page)
        page.get_by_role("tab", name="Errors").click()
        page.locator("img.resmoe-picture:visible").first.wait_for()
        page.evaluate(
            "document.querySelectorAll('img.resmoe-picture').forEach("
            "(image) => { if (!image.offsetParent) image.classList.remove('resmoe-picture'); })"
        )
        slider = page.locator(".widget-slider .noUi-handle").evaluate_all(
            "(handles) => handles.findIndex((handle) => handle.offsetParent)"
        )
        assert len(set(move_slider(page, handle=slider))) == 3
        elsewhere = [
            url for url in asked if not url.startswith((bare, bare.replace("http", "ws", 1), "data:", "blob:"))
        ]
        assert elsewhere == []
        page.close()
