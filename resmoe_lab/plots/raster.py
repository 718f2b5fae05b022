"""Arrays to PNG images that charts and widgets embed."""

from __future__ import annotations

import base64
import io

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure
from PIL import Image

from .theme import drawing


def color_png(values: np.ndarray, *, low: float, high: float, cmap: str = "cividis") -> bytes:
    """Return a PNG with one pixel a value; NaN is transparent.

    Parameters
    ----------
    values : (H, W) float array
    low, high
        The values at the two ends of the colour map.
    cmap
        A matplotlib colour map.
    """
    span = high - low if high > low else 1.0
    rgba = colormaps[cmap]((np.asarray(values, dtype=float) - low) / span, bytes=True)
    rgba[~np.isfinite(values), 3] = 0
    return _png(Image.fromarray(rgba))


def two_color_png(darkness: np.ndarray, second: np.ndarray, *, colors: tuple[str, str]) -> bytes:
    """Return a PNG in two colours on a transparent background.

    Eight levels of each colour take four bits a pixel: a report embeds dozens of images.

    Parameters
    ----------
    darkness : (H, W) float array in [0, 1]
        The opacity.
    second : (H, W) bool array
        Where the second colour is used.
    colors
        Both colours as ``#rrggbb``.
    """
    levels = np.clip(np.round(np.asarray(darkness) * 7), 0, 7).astype(np.uint8) + 8 * second.astype(np.uint8)
    picture = Image.frombytes("P", levels.shape[::-1], levels.tobytes())
    picture.putpalette(b"".join(bytes.fromhex(color.removeprefix("#")) * 8 for color in colors))
    stream = io.BytesIO()
    opacities = bytes(round(255 * i / 7) for i in range(8)) * 2
    picture.save(stream, format="PNG", optimize=True, bits=4, transparency=opacities)
    return stream.getvalue()


def _png(picture: Image.Image) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, format="PNG", optimize=True)
    return stream.getvalue()


def data_uri(png: bytes) -> str:
    """Return a PNG as a data URI."""
    return "data:image/png;base64," + base64.b64encode(png).decode("ascii")


def figure_bytes(figure: Figure, form: str = "png") -> bytes:
    """Return a matplotlib figure as a PNG or an SVG file."""
    stream = io.BytesIO()
    # A date in the file would make equal pictures differ.
    with drawing():
        figure.savefig(stream, format=form, metadata={"Date": None} if form == "svg" else None)
    return stream.getvalue()


def block_rms(values: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """Return the root mean square of `values` over a grid of at most `rows` x `columns` blocks.

    Scaling an image down would otherwise show a few entries and hide the rest.
    """
    row_edges = _edges(values.shape[0], rows)
    column_edges = _edges(values.shape[1], columns)
    squares = np.asarray(values, dtype=np.float64) ** 2
    sums = np.add.reduceat(np.add.reduceat(squares, row_edges[:-1], axis=0), column_edges[:-1], axis=1)
    return np.sqrt(sums / np.outer(np.diff(row_edges), np.diff(column_edges)))


def _edges(length: int, blocks: int) -> np.ndarray:
    return np.linspace(0, length, min(length, blocks) + 1).round().astype(int)
