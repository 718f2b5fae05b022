"""A finished report in a browser with the network off: alive, on a phone and on paper, and for everybody to read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page

from ..plots.synthetic import METHODS, SCORED_KEEPS, make_sweep

pytestmark = pytest.mark.browser
#: Waits until every chart has drawn what its sliders say.
_SETTLED = "Promise.all(resmoe.charts.map((chart) => chart.view.runAsync())).then(() => true)"


@pytest.fixture
def page(browser: Browser, report: Path) -> Iterator[Page]:
    """The report, open; whatever it asks of a network or complains about fails the test."""
    context = browser.new_context(offline=True, viewport={"width": 1200, "height": 900})
    page = context.new_page()
    page.set_default_timeout(120_000)
    complaints: list[str] = []
    page.on("request", lambda request: complaints.append(request.url[:100]) if _leaves(request.url) else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda line: complaints.append(line.text) if line.type in ("error", "warning") else None)
    page.goto(report.as_uri())
    page.wait_for_function("window.resmoe && resmoe.charts.length > 8 && resmoe.charts.every((chart) => chart.view)")
    yield page
    context.close()
    assert complaints == []


def _leaves(url: str) -> bool:
    return not url.startswith(("file:", "data:", "blob:"))


def _pictures(page: Page) -> list[str]:
    """What every chart shows, as its marks' markup."""
    return page.evaluate("resmoe.charts.map((chart) => chart.element.querySelector('svg').outerHTML)")


def test_the_kept_fraction_moves_every_chart_and_the_tables(page: Page) -> None:
    before = _pictures(page)
    row = page.locator("tbody:not([hidden]) tr", has_text="resmoe-up").first
    shown = row.inner_text()
    slider = page.locator("#page-keep")
    slider.focus()
    for _ in range(5):
        page.keyboard.press("ArrowRight")
    page.wait_for_function("resmoe.charts.every((c) => !('keep' in c.values) || c.view.signal('keep') >= 0.45)")
    keyed = page.evaluate("resmoe.charts.map((chart) => (chart.spec.params || []).some((p) => p.name === 'keep'))")
    page.evaluate(_SETTLED)
    changed = [old != new for old, new in zip(before, _pictures(page), strict=True)]
    assert sum(keyed) >= 8
    assert changed == keyed
    moved = page.locator("tbody:not([hidden]) tr", has_text="resmoe-up").first.inner_text()
    assert moved != shown
    assert "0.5" in page.locator("output[data-shows=keep]").first.inner_text()


def test_a_chart_shows_the_value_of_the_table(page: Page) -> None:
    """The number beside a method is the sweep's own, at the default and after a move."""
    errors = make_sweep().errors
    mean = errors.groupby(["method", "keep"])["relative_error"].mean()
    for presses, keep in ((0, 0.25), (5, 0.5)):
        page.locator("#page-keep").focus()
        for _ in range(presses):
            page.keyboard.press("ArrowRight")
        page.evaluate(_SETTLED)
        figure = page.locator("figure", has_text="Relative approximation error, mean over the layers").inner_text()
        for method in METHODS:
            assert f"{mean[method, keep]:.3f}" in figure
        assert keep in SCORED_KEEPS


def test_the_layer_slider_changes_both_heatmaps(page: Page) -> None:
    sliders = page.locator("input[type=range][name=layer]")
    assert sliders.count() == 2
    before = page.evaluate("[...document.querySelectorAll('svg image')].map((image) => image.getAttribute('href'))")
    sliders.first.focus()
    page.keyboard.press("ArrowRight")
    page.wait_for_function("resmoe.charts.filter((c) => c.values.layer === 1).length === 2")
    page.evaluate(_SETTLED)
    after = page.evaluate("[...document.querySelectorAll('svg image')].map((image) => image.getAttribute('href'))")
    assert len(after) == len(before) == 9
    assert before[0] != after[0]
    assert before[-1] != after[-1]
    assert "layer 1" in page.locator("figure", has_text="Cosine similarity").inner_text()


def test_names_from_outside_are_text(page: Page) -> None:
    assert "<b>mixtral</b>-tiny" in page.locator("h1").inner_text()
    assert page.locator("h1 b").count() == 0
    assert page.locator("figure", has_text="<b>storyworld</b> & co").count() == 2


def test_a_phone_shows_no_more_than_its_width(browser: Browser, report: Path) -> None:
    context = browser.new_context(offline=True, viewport={"width": 420, "height": 800}, color_scheme="dark")
    page = context.new_page()
    page.goto(report.as_uri())
    page.wait_for_function("window.resmoe && resmoe.charts.every((chart) => chart.view)")
    assert page.evaluate("document.documentElement.scrollWidth") <= 420
    paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
    red, green, blue = (int(part) for part in paper.removeprefix("rgb(").removesuffix(")").split(","))
    assert max(red, green, blue) < 60
    context.close()


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
