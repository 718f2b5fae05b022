"""The keyboard alone: every control of every panel of the app is reached by Tab and moved by keys."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page

from .voila import running_app

pytestmark = pytest.mark.browser
#: Marks the controls of the panel that is shown, and notes which of them get the focus.
_MARK = """() => {
  const controls = "input, select, textarea, button, [role=slider], [role=option][tabindex='0'], summary";
  let count = 0;
  for (const control of document.querySelectorAll('.resmoe-app :is(' + controls + ')')) {
    delete control.dataset.key;
    delete control.dataset.reached;
    const shown = control.checkVisibility({ visibilityProperty: true }) && control.getBoundingClientRect().width;
    if (shown && !control.disabled) control.dataset.key = count++;
  }
  const reach = (event) => { event.target.dataset.reached = '1'; };
  document.addEventListener('focusin', window.resmoeReach ??= reach);
  return count;
}"""
#: What is still shown and has not been reached, in words.
_MISSED = """() => [...document.querySelectorAll('.resmoe-app [data-key]')]
  .filter((control) => !control.dataset.reached && !control.disabled && control.checkVisibility())
  .map((control) => control.outerHTML.slice(0, 160))"""
#: Number and kind of the control that has the focus; null if it is none of them.
_FOCUS = """() => {
  const control = document.activeElement;
  if (control?.dataset.key === undefined) return null;
  const kind = control.getAttribute('role') || (control.localName === 'input' ? control.type : control.localName);
  return [control.dataset.key, kind];
}"""
_VALUE = """() => {
  const control = document.activeElement;
  if (control.type === 'checkbox') return String(control.checked);
  return control.value ?? control.getAttribute('aria-valuetext');
}"""
#: Keys that move a control of a kind, and those that move it back.
_KEYS = {
    "slider": ("ArrowRight", "ArrowLeft"),
    "range": ("ArrowRight", "ArrowLeft"),
    "select": ("ArrowDown", "ArrowUp"),
    "number": ("ArrowUp", "ArrowDown"),
    "checkbox": ("Space", "Space"),
    "text": ("x", "Backspace"),
    "textarea": ("x", "Backspace"),
}


def test_every_control_is_reached_and_moved_by_keys(browser: Browser, tmp_path: Path) -> None:
    with running_app(tmp_path, "mixtral-tiny") as address:
        page = browser.new_page(viewport={"width": 1400, "height": 1600})
        page.set_default_timeout(240_000)
        complaints: list[str] = []
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(address, wait_until="commit")
        page.locator(".resmoe-map g[role=option]").first.wait_for()
        tabs = page.get_by_role("tab")
        names = tabs.all_inner_texts()
        assert len(names) > 8
        for number, name in enumerate(names):
            if number:
                _next_tab(page, names[number - 1], name)
            moved = _walk(page)
            assert page.evaluate(_MISSED) == [], f"of panel {name} the keyboard does not reach these"
            assert moved, f"no control of panel {name} was moved"
        assert complaints == []
        page.close()


def _next_tab(page: Page, current: str, name: str) -> None:
    """Go from a tab to its neighbour, with the arrow key."""
    page.get_by_role("tab", name=current, exact=True).focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    chosen = page.get_by_role("tab", name=name, exact=True)
    page.wait_for_function("(tab) => tab.getAttribute('aria-selected') === 'true'", arg=chosen.element_handle())


def _walk(page: Page) -> int:
    """Press Tab until the focus has been round the page; return how many controls keys have moved."""
    count = int(page.evaluate(_MARK))
    seen: set[str] = set()
    moved = 0
    for _ in range(3 * count + 40):
        page.keyboard.press("Tab")
        focus = page.evaluate(_FOCUS)
        if focus is None or focus[0] in seen:
            continue
        seen.add(focus[0])
        if focus[1] in _KEYS:
            _move(page, focus[1])
            moved += 1
        if len(seen) == count:
            break
    return moved


def _move(page: Page, kind: str) -> None:
    """Move the control that has the focus, and back; at an end of its range it moves the other way."""
    before = page.evaluate(_VALUE)
    there, back = _KEYS[kind]
    if kind in ("text", "textarea"):
        page.keyboard.press("End")  # Tab selects what is in a field
    page.keyboard.press(there)
    if page.evaluate(_VALUE) == before:
        there, back = back, there
        page.keyboard.press(there)
    assert page.evaluate(_VALUE) != before, page.evaluate("document.activeElement.outerHTML.slice(0, 200)")
    page.keyboard.press(back)
    assert page.evaluate(_VALUE) == before
