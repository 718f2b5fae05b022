"""The panels' own widgets in a browser, with a model that needs no kernel."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page

from resmoe_lab.workbench import panels

pytestmark = pytest.mark.browser
_MODULE = Path(panels.__file__).parents[1] / "frontend.js"
#: A model as anywidget has it, and the widget rendered from it; `send` changes traits as one message of a kernel does.
_RENDER = """async (source) => {
  const address = URL.createObjectURL(new Blob([source], { type: "text/javascript" }));
  const widget = (await import(address)).default;
  const values = { kind: "picture", png: new DataView(new ArrayBuffer(8)), alt: "before", pending: false };
  const listeners = {};
  const model = { get: (name) => values[name], on: (name, call) => (listeners[name] ??= []).push(call) };
  window.send = (changed) => {
    const names = Object.keys(changed).filter((name) => values[name] !== changed[name]);
    Object.assign(values, changed);
    for (const name of names) for (const call of listeners["change:" + name] || []) call();
  };
  widget.render({ model, el: document.body });
}"""


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    page = browser.new_page()
    page.evaluate(_RENDER, _MODULE.read_text())
    yield page
    page.close()


def test_the_words_of_a_picture_change_where_the_picture_does_not(page: Page) -> None:
    """Curves of all methods are one picture whichever is chosen; what it says of the chosen one is another."""
    image = page.locator("img.resmoe-picture")
    assert image.get_attribute("alt") == "before"
    address = image.get_attribute("src")
    page.evaluate("send({ alt: 'after' })")
    assert image.get_attribute("alt") == "after"
    assert image.get_attribute("src") == address


def test_a_new_picture_comes_with_its_words(page: Page) -> None:
    image = page.locator("img.resmoe-picture")
    address = image.get_attribute("src")
    page.evaluate("send({ alt: 'after', png: new DataView(new ArrayBuffer(9)) })")
    assert image.get_attribute("alt") == "after"
    assert image.get_attribute("src") != address
