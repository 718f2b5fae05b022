"""The figure of error curves, of which only what a slider moves is drawn again."""

from __future__ import annotations

import io
import math
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator
from matplotlib.transforms import ScaledTranslation
from PIL import Image

from ..series import error_text, goes_by_bits, order_series
from ..theme import drawing, has_center, new_figure, series_colors

_INK = "#1a1d22"
_ROW, _LEAST_HEIGHT = 0.24, 3.1
#: Where errors a hundred times smaller than others are shown, the axis is logarithmic down to here.
_SMALL = 1e-3
#: How long its linear part is, in decades.
_LINEAR = 0.4
_SMALL_TICKS = (0, 1e-3, 1e-2, 0.1, 1)


class ErrorFigure:
    """Error curves, every method's value where the slider stands, and the same layer by layer.

    Parameters
    ----------
    table
        Columns ``layer, series, at, value``: points of the curves.
    layer
        Layer whose curves are drawn; the mean over all layers by default.
    across
        Label of `at`, such as ``"kept fraction"``.

    Notes
    -----
    Drawing the whole figure takes 120 to 150 ms. Only the artists that move are drawn again, over a copy of the rest.
    """

    def __init__(self, table: pd.DataFrame, *, layer: int | None = None, across: str = "kept fraction") -> None:
        self._table, self._across, self._layer = table, across, layer
        shown = table if layer is None else table[table["layer"] == layer]
        self._curves = shown.groupby(["series", "at"])["value"].mean().unstack("series")
        self._names = order_series(self._curves.columns)
        self._colors = series_colors(self._names)
        self._layers = sorted(set(table["layer"]))
        by_layer = table.pivot_table(index=["at", "series"], columns="layer", values="value")[self._layers]
        self._by_layer = dict(zip(by_layer.index, by_layer.to_numpy(), strict=True))
        # Coded and rounded weights are far closer than pruned ones.
        self._small = any(map(goes_by_bits, self._names))
        self._top = (1.3 if self._small else 1.08) * float(table["value"].max()) or 1.0
        with drawing():
            self._figure = self._static_figure()
            self._animated = self._animated_artists()
            self._canvas = FigureCanvasAgg(self._figure)
            self._canvas.draw()
            self._background = self._canvas.copy_from_bbox(self._figure.bbox)

    def values(self, at: float) -> pd.Series:
        """Return each series' value at the nearest computed point; NaN where there is none."""
        nearest = min(self._curves.index, key=lambda point: abs(point - at))
        return self._curves.loc[nearest].reindex(self._names)

    def png(self, at: float) -> bytes:
        """Return the figure as a PNG, with the slider at this value."""
        with drawing():
            self._canvas.restore_region(self._background)
            self._set_position(at)
            for artist in self._animated:
                self._figure.draw_artist(artist)
            picture = Image.fromarray(np.asarray(self._canvas.buffer_rgba()))
        stream = io.BytesIO()
        picture.convert("RGB").save(stream, format="PNG", compress_level=1, compress_type=zlib.Z_RLE)
        return stream.getvalue()

    def figure(self, at: float) -> Figure:
        """Return a figure to save, with the slider at this value."""
        other = ErrorFigure(self._table, layer=self._layer, across=self._across)
        with drawing():
            other._set_position(at)
            for artist in other._animated:
                artist.set_animated(False)
        return other._figure

    def _static_figure(self) -> Figure:
        """Return the figure without the artists that the slider moves."""
        names = self._names
        figure = new_figure(9.6 if len(self._layers) > 1 else 7.4, max(_LEAST_HEIGHT, 0.9 + _ROW * len(names)))
        ratios = (3, 2, 2) if len(self._layers) > 1 else (3, 2)
        axes = figure.subplots(1, len(ratios), width_ratios=ratios)
        curves, values = axes[:2]
        for name in names:
            style = "-" if has_center(name) else "--"
            curve = self._curves[name].dropna()
            curves.plot(curve.index, curve, style, color=self._colors[name], linewidth=1.5)
        where = (
            "mean over the layers" if self._layer is None and len(self._layers) > 1 else f"layer {self._shown_layer()}"
        )
        curves.set(
            xlim=(0, 1.01 * max(1.0, float(self._curves.index.max()))),
            ylim=(0, self._top),
            xlabel=self._across,
            title=f"Relative error as stored, {where}",
        )
        curves.grid(True)
        values.set(xlim=(0, (3 if self._small else 1.22) * self._top), ylim=(len(names) - 0.4, -0.7))
        values.set_yticks(range(len(names)), names)
        values.tick_params(left=False)
        values.spines["left"].set_visible(False)
        values.grid(True, axis="x")
        # Reserves the space of a title that changes with the slider.
        values.set_title(" ", weight="normal")
        if len(self._layers) > 1:
            axes[2].set(xlabel="layer", ylim=(0, self._top), xlim=(self._layers[0] - 0.3, self._layers[-1] + 0.3))
            axes[2].set_xticks(self._layers[:: max(1, len(self._layers) // 8)])
            axes[2].set_title("by layer", weight="normal")
            axes[2].grid(True)
        if self._small:
            for vertical in (curves, *axes[2:]):
                vertical.set_yscale("symlog", linthresh=_SMALL, linscale=_LINEAR)
                _tick_small(vertical.yaxis, _SMALL_TICKS)
            values.set_xscale("symlog", linthresh=_SMALL, linscale=_LINEAR)
            _tick_small(values.xaxis, (0, *_SMALL_TICKS[2:]))
        return figure

    def _shown_layer(self) -> int:
        return self._layers[0] if self._layer is None else self._layer

    def _animated_artists(self) -> list[Any]:
        """Create the artists that the slider moves."""
        curves, values, *rest = self._figure.axes
        self._line = curves.axvline(0, color=_INK, linewidth=1, animated=True)
        self._title = values.text(0, 1.0, "", transform=values.transAxes, size=10, va="bottom", animated=True)
        self._title.set_in_layout(False)
        self._rows = []
        for row, name in enumerate(self._names):
            color: dict[str, Any] = {"color": self._colors[name], "animated": True}
            (dot,) = curves.plot([], [], "o", markersize=5, **color)
            (stem,) = values.plot([], [], "-", linewidth=3, alpha=0.45, **color)
            (end,) = values.plot([], [], "o", markersize=6, **color)
            beside = values.transData + ScaledTranslation(6 / 72, 0, self._figure.dpi_scale_trans)
            text: dict[str, Any] = {"size": 8, "weight": "bold", "va": "center", "color": _INK, "animated": True}
            number = values.text(0, row, "", transform=beside, **text)
            number.set_in_layout(False)
            lines = [axes.plot([], [], "o-", markersize=3.5, linewidth=1.2, **color)[0] for axes in rest]
            self._rows.append((name, row, dot, stem, end, number, lines))
        artists = [self._line, self._title]
        return artists + [part for row in self._rows for part in (*row[2:6], *row[6])]

    def _set_position(self, at: float) -> None:
        values = self.values(at)
        point = float(values.name)  # type: ignore[arg-type]
        self._line.set_xdata([point, point])
        self._title.set_text(f"at {self._across} {point:g}")
        for name, row, dot, stem, end, number, lines in self._rows:
            value = float(values[name])
            dot.set_data([point], [value])
            stem.set_data([0, value], [row, row])
            end.set_data([value], [row])
            number.set_position((value, row))
            number.set_text("" if pd.isna(value) else error_text(value))
            for line in lines:
                line.set_data(self._layers, self._by_layer.get((point, name), [math.nan] * len(self._layers)))


def _tick_small(axis: Any, ticks: Sequence[float]) -> None:
    """Few ticks, 0 among them."""
    axis.set_major_locator(FixedLocator(list(ticks)))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(lambda value, _: f"{value:g}")
