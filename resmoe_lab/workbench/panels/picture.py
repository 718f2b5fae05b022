"""A picture that changes without flicker."""

from __future__ import annotations

import ipywidgets
from matplotlib.figure import Figure

from ...plots.raster import figure_png


class PicturePanel:
    """One image widget whose bytes are replaced: the element stays, so nothing jumps.

    It is hidden until it has a picture. It has no tooltip: ipywidgets 8's image view fails on one.
    """

    def __init__(self) -> None:
        layout = ipywidgets.Layout(max_width="100%", object_fit="contain", display="none")
        self.widget = ipywidgets.Image(format="png", layout=layout)
        self.widget.add_class("resmoe-picture")

    def show(self, figure: Figure) -> None:
        """Replace the picture."""
        self.widget.value = figure_png(figure)
        self.widget.layout.display = ""
