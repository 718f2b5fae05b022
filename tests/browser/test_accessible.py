"""A report that everybody can read: axe-core's rules, words for every picture, a slider that says what it is."""

from __future__ import annotations

from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser

pytestmark = pytest.mark.browser


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(browser: Browser, report: Path, scheme: str) -> None:
    context = browser.new_context(viewport={"width": 1200, "height": 900}, color_scheme=scheme, bypass_csp=True)
    page = context.new_page()
    page.goto(report.as_uri())
    page.wait_for_function("window.resmoe && resmoe.charts.length > 8 && resmoe.charts.every((chart) => chart.view)")
    violations = Axe().run(page).response["violations"]
    serious = [
        f"{one['id']} ({one['impact']}): {one['nodes'][0]['html'][:160]}"
        for one in violations
        if one["impact"] in ("serious", "critical")
    ]
    assert serious == []
    charts = page.locator("[role=graphics-document]")
    labels = charts.evaluate_all("(charts) => charts.map((chart) => chart.getAttribute('aria-label'))")
    assert len(labels) > 8
    assert all(label and len(label) > 15 for label in labels)
    context.close()


def test_on_paper_nothing_is_cut_off(browser: Browser, report: Path) -> None:
    page = browser.new_page(viewport={"width": 794, "height": 1123})
    page.emulate_media(media="print")
    page.goto(report.as_uri())
    page.wait_for_function("window.resmoe && resmoe.charts.every((chart) => chart.view)")
    assert page.evaluate("document.documentElement.scrollWidth") <= 794
    assert not page.locator("#page-keep").is_visible()
    assert len(page.pdf()) > 10_000
    page.close()
