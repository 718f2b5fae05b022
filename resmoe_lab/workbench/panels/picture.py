"""A picture widget that changes without flicker, with an alternative text."""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import Any

import anywidget
import ipywidgets
import traitlets
from matplotlib.figure import Figure

from ...plots.raster import figure_bytes

FRONTEND = Path(__file__).resolve().parents[1]


class PicturePanel(anywidget.AnyWidget):
    """One image element whose bytes are replaced; until it has a picture it is hidden, or a skeleton while one is made.

    Parameters
    ----------
    alt
        Alternative text of the picture.
    """

    _esm = FRONTEND / "frontend.js"
    _css = FRONTEND / "frontend.css"
    kind = traitlets.Unicode("picture").tag(sync=True)
    png = traitlets.Bytes(b"").tag(sync=True)
    alt = traitlets.Unicode("").tag(sync=True)
    pending = traitlets.Bool(False).tag(sync=True)

    def show(self, picture: Figure | bytes, alt: str) -> None:
        """Replace the picture and its alternative text at once."""
        png = picture if isinstance(picture, bytes) else figure_bytes(picture)
        with self.hold_sync():
            self.alt = alt
            self.png = png
            self.pending = False

    def hide(self) -> None:
        """Hide the picture."""
        with self.hold_sync():
            self.png = b""
            self.pending = False


def with_reading(picture: ipywidgets.Widget, words: str | None) -> ipywidgets.Widget:
    """Return a picture with the words on how to read it below, which are folded away; as it is if there are none."""
    if words is None:
        return picture
    reading = ipywidgets.HTML(
        f"<details class='resmoe-reading'><summary>How to read this</summary>{escape(words)}</details>"
    )
    trait = "png" if picture.has_trait("png") else "data"

    def follow(_: Any = None) -> None:
        reading.layout.display = "" if getattr(picture, trait, True) else "none"

    if picture.has_trait(trait):
        picture.observe(follow, names=trait)
    follow()
    return ipywidgets.VBox([picture, reading])
