"""Rows of small images, such as barycenters of images."""

from __future__ import annotations

from collections.abc import Mapping
from textwrap import wrap

import numpy as np
from matplotlib.figure import Figure

from ..theme import drawing, new_figure

#: Inches of an image, and of a letter of the title.
_SIDE, _LETTER = 0.62, 0.09


def pictures_figure(rows: Mapping[str, np.ndarray], *, title: str) -> Figure:
    """Draw rows of images.

    Parameters
    ----------
    rows
        Name to (n, height, width) grey or (n, height, width, 3) coloured values in [0, 1].
    title
        Title above them.
    """
    longest = max(len(pictures) for pictures in rows.values())
    side = max(_SIDE, 4.0 / longest)
    with drawing():
        width = side * longest + 1.4
        lines = wrap(title, int(width / _LETTER))
        figure = new_figure(width, side * len(rows) + 0.3 + 0.18 * len(lines))
        grid = figure.subplots(len(rows), longest, squeeze=False)
        for axes, (name, pictures) in zip(grid, rows.items(), strict=True):
            for axis in axes:
                axis.set_axis_off()
            for axis, picture in zip(axes, pictures, strict=False):
                axis.imshow(np.clip(picture, 0, 1), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
            axes[0].text(-0.15, 0.5, name, transform=axes[0].transAxes, ha="right", va="center", size=9)
        figure.suptitle("\n".join(lines), size=10)
    return figure
