"""Notebooks of one cell, opened and run in a browser."""

from __future__ import annotations

from pathlib import Path

import nbformat
from playwright.sync_api import Page

_READY = "window.jupyterapp?.shell?.currentWidget?.sessionContext?.isReady"
PICTURE = "img.resmoe-picture"
HANDLE = ".widget-slider .noUi-handle"
_PATIENCE = 90_000


def write_notebook(folder: Path, name: str, code: str) -> None:
    """Write a notebook of one cell."""
    folder.mkdir(exist_ok=True)
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    cells = [nbformat.v4.new_code_cell(code)]
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel}), folder / name)


def run_notebook(page: Page, address: str, name: str) -> None:
    """Open a notebook in JupyterLab and run every cell."""
    page.set_default_timeout(_PATIENCE)
    page.goto(f"{address}/lab/tree/{name}?reset")
    page.wait_for_function(_READY)
    page.evaluate("window.jupyterapp.commands.execute('notebook:run-all-cells')")


def picture(page: Page, place: int = 0) -> str:
    """Wait for a panel's picture, and return its address: a new one for every new picture."""
    page.wait_for_function(
        "(place) => (document.querySelectorAll('img.resmoe-picture')[place]?.naturalWidth || 0) > 100", arg=place
    )
    return str(page.locator(PICTURE).nth(place).get_attribute("src"))


def wait_for_another(page: Page, old: str, place: int = 0) -> str:
    """Wait until a picture is another than it was."""
    page.wait_for_function(
        "([place, old]) => { const image = document.querySelectorAll('img.resmoe-picture')[place];"
        " return image && image.src !== old && image.complete; }",
        arg=[place, old],
    )
    return picture(page, place)


def move_slider(page: Page, handle: int = 0) -> list[str]:
    """Move a slider with the arrow keys and with the mouse; return the pictures before, between and after."""
    knob = page.locator(HANDLE).nth(handle)
    knob.wait_for(state="visible")
    pictures = [picture(page)]
    knob.focus()
    page.keyboard.press("ArrowRight")
    pictures.append(wait_for_another(page, pictures[-1]))
    box = knob.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.move(box["x"] + 35, box["y"] + box["height"] / 2, steps=4)
    page.mouse.up()
    pictures.append(wait_for_another(page, pictures[-1]))
    return pictures


def slide(page: Page, moves: int) -> None:
    """Move the first slider back and forth, one picture a move."""
    page.locator(HANDLE).first.wait_for(state="visible")
    page.locator(HANDLE).first.focus()
    for move in range(moves):
        old = picture(page)
        page.keyboard.press("ArrowRight" if move % 10 < 5 else "ArrowLeft")
        wait_for_another(page, old)
