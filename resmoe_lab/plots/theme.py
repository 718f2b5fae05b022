"""The theme of all charts: a fixed colour per method, readable on light and dark backgrounds.

Charts take the colour of the surrounding text for axes and labels (``currentColor``), so the same chart is legible in a
light report, a dark notebook and in print. Every series colour keeps a contrast of about 3 or more against both.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import altair as alt
from matplotlib import rc_context, rc_params_from_file
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
INK = "currentColor"
MUTED = "#7f8794"
ACCENT, HIGHLIGHT = "#1f78c8", "#d1570a"

#: Blue prunes, orange factorises, green drops neurons, violet merges experts; a method and its residual
#: counterpart share a hue and differ in strength and dash.
METHOD_COLORS: dict[str, str] = {
    "resmoe-up": "#1f78c8",
    "up": "#4a9fd8",
    "resmoe-up-aware": "#5f6fd9",
    "resmoe-up-pooled": "#1b8fb0",
    "resmoe-svd": "#d1570a",
    "resmoe-svd-white": "#dd5b48",
    "resmoe-svd-pooled": "#b0651d",
    "resmoe-svd-separate": "#c2566b",
    "svd": "#c98500",
    "svd-separate": "#a88a2a",
    "resmoe-sp": "#0b7d5f",
    "sp": "#1fa583",
    "m-smoe": "#c4679b",
    "git-rebasin": "#9a62c7",
    "meo": "#b0476b",
    "mlp-fusion": "#8a8378",
    "resmoe-coded": "#239549",
    "coded": "#508137",
    "resmoe-coded-gptq": "#17a185",
    "coded-gptq": "#6b8a2e",
    "resmoe-rtn": "#5a6472",
    "rtn": "#636363",
    "resmoe-hqq": "#794aba",
    "hqq": "#765686",
    "gptq": "#895272",
    "mxfp4": "#835849",
    "nvfp4": "#776040",
    "original": MUTED,
    "center-only": MUTED,
}
_SPARE = ("#0f8fa3", "#8c8f1c", "#d0546a", "#6f75d6", "#a0693f", "#4f9a3a")
_DASH = [5, 3]
#: Between the name of a method and that of its center, where the name of a series has both.
SERIES_SEPARATOR = " · "
_SOLID = [1, 0]
_LOCK = threading.RLock()
_STYLE = Path(__file__).with_name("resmoe.mplstyle")


def series_colors(names: Iterable[str]) -> dict[str, str]:
    """Return a colour for each series; a known method always has the same."""
    colors: dict[str, str] = {}
    spare = 0
    for name in names:
        if name in METHOD_COLORS:
            colors[name] = METHOD_COLORS[name]
        elif name not in colors:
            colors[name] = _SPARE[spare % len(_SPARE)]
            spare += 1
    return colors


def color_scale(names: Iterable[str]) -> alt.Scale:
    """Return the Altair colour scale of these series."""
    colors = series_colors(names)
    return alt.Scale(domain=list(colors), range=list(colors.values()))


def dash_scale(names: Iterable[str]) -> alt.Scale:
    """Return the dash of each series: solid for methods with a center, dashed for others."""
    names = list(names)
    return alt.Scale(domain=names, range=[_SOLID if has_center(name) else _DASH for name in names])


def has_center(series: str) -> bool:
    """Whether a series is of a method that stores residuals from a center; False for unknown methods."""
    from ..methods import METHODS

    method = series.split(SERIES_SEPARATOR)[0]
    return method in METHODS and METHODS[method].uses_center


def series_legend() -> alt.Legend:
    """Return the legend of charts without names beside the marks; it wraps in narrow pages."""
    return alt.Legend(title=None, orient="top", columns=4, symbolType="circle", symbolSize=70, symbolStrokeWidth=0)


def styled(chart: Any) -> Any:
    """Return `chart` with the shared theme."""
    text = {"labelColor": INK, "titleColor": INK, "labelFont": FONT, "titleFont": FONT}
    axis = text | {
        **{"labelFontSize": 11, "titleFontSize": 12, "titleFontWeight": "normal", "titlePadding": 8},
        **{"gridColor": MUTED, "gridOpacity": 0.18, "domainColor": MUTED, "domainOpacity": 0.5},
        **{"tickColor": MUTED, "tickOpacity": 0.5, "labelLimit": 150},
    }
    legend = text | {"labelFontSize": 11, "titleFontSize": 11, "titleFontWeight": "normal"}
    return (
        chart.configure(font=FONT, background="transparent", padding={"left": 4, "top": 4, "right": 8, "bottom": 4})
        .configure_view(stroke=None)
        # A chart has one description for screen readers, instead of hundreds of unnamed marks.
        .configure_mark(aria=False)
        .configure_axis(**axis)
        .configure_legend(**legend)
        .configure_header(**text)
        .configure_title(
            color=INK, font=FONT, fontSize=13, fontWeight=600, anchor="start", subtitleColor=INK, offset=10
        )
        .configure_text(color=INK, font=FONT, fontSize=11)
    )


@cache
def _style() -> Any:
    return rc_params_from_file(_STYLE, use_default_template=False)


@contextmanager
def drawing() -> Iterator[None]:
    """Draw matplotlib figures in the shared theme.

    matplotlib's settings are process-wide and its text layout is not thread-safe, so one figure is drawn at a time.
    """
    with _LOCK, rc_context(_style()):
        yield


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure, in inches, outside pyplot."""
    # The usual padding cuts the tops of bold letters.
    return Figure(figsize=(width, height), dpi=110, layout=ConstrainedLayoutEngine(h_pad=0.08))
