"""A picture widget that changes without flicker, with an alternative text."""

from __future__ import annotations

from pathlib import Path

import anywidget
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
