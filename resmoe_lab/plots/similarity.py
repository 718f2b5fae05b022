"""Cosine similarity of the aligned experts of a layer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import altair as alt
import numpy as np

from .raster import color_png, data_uri
from .slider import layer_slider
from .theme import FONT, styled

_SIDE = 330
_READABLE = 12


def similarity_heatmap(similarity: Mapping[int, np.ndarray]) -> alt.LayerChart:
    """Draw the cosine similarity of the experts, one picture a layer behind a slider.

    The more similar the experts are, the smaller are their residuals from the center.

    Parameters
    ----------
    similarity
        Layer to (N, N) float array.

    Examples
    --------
    >>> chart = similarity_heatmap({0: np.array([[1.0, 0.8], [0.8, 1.0]])})
    """
    off_diagonal = {
        layer: np.where(np.eye(len(values), dtype=bool), np.nan, values) for layer, values in similarity.items()
    }
    finite = np.concatenate([values[np.isfinite(values)] for values in off_diagonal.values()] or [np.zeros(1)])
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    if high - low < 1e-6:
        low, high = low - 0.01, high + 0.01
    experts = len(next(iter(similarity.values())))
    slider = layer_slider(similarity)
    layers = [_frames(off_diagonal, low, high, selects=slider.selects("layer")), _legend(low, high)]
    if experts <= _READABLE:
        layers.append(_numbers(off_diagonal, (low + high) / 2, selects=slider.selects("layer")))
    text = alt.expr(f"'Cosine similarity of the aligned experts, layer ' + {slider.shown}")
    chart = alt.LayerChart(layer=layers).properties(
        width=_SIDE, height=_SIDE, title=alt.TitleParams(text), usermeta={"square": True, "beside": 150}
    )
    return styled(chart.add_params(*slider.params()))


def _frames(off_diagonal: Mapping[int, np.ndarray], low: float, high: float, *, selects: str) -> alt.Chart:
    rows: list[dict[str, Any]] = []
    for layer, values in off_diagonal.items():
        url = data_uri(color_png(values, low=low, high=high, cmap="YlGnBu"))
        rows.append({"layer": layer, "url": url, "start": -0.5, "end": len(values) - 0.5})
    end = rows[0]["end"]
    axis = alt.Axis(grid=False, tickMinStep=1, format="d", ticks=False, domain=False)
    scale = alt.Scale(domain=[-0.5, end], nice=False)
    return (
        alt.Chart(alt.Data(values=rows))
        .transform_filter(selects)
        .mark_image(smooth=False, aspect=False)
        .encode(
            x=alt.X("start:Q", title="expert", scale=scale, axis=axis),
            x2="end:Q",
            y=alt.Y("start:Q", title="expert", scale=alt.Scale(domain=[end, -0.5], nice=False), axis=axis),
            y2="end:Q",
            url="url:N",
        )
    )


def _numbers(off_diagonal: Mapping[int, np.ndarray], middle: float, *, selects: str) -> alt.Chart:
    rows = [
        {"layer": layer, "row": i, "column": j, "value": float(f"{values[i, j]:.4g}")}
        for layer, values in off_diagonal.items()
        for i, j in zip(*np.nonzero(np.isfinite(values)), strict=True)
    ]
    rows = [row | {"row": int(row["row"]), "column": int(row["column"])} for row in rows]
    ink = alt.condition(alt.datum["value"] > middle, alt.value("white"), alt.value("#1a1d22"))
    base = alt.Chart(alt.Data(values=rows)).transform_filter(selects).mark_text(font=FONT, fontSize=10)
    tooltip = [alt.Tooltip(name) for name in ("layer:Q", "row:Q", "column:Q", "value:Q")]
    return base.encode(x="column:Q", y="row:Q", text=alt.Text("value:Q", format=".2f"), color=ink, tooltip=tooltip)


def _legend(low: float, high: float) -> alt.Chart:
    """Return a colour bar alone: image marks have none."""
    scale = alt.Scale(scheme="yellowgreenblue", domain=[low, high])
    bar = alt.Legend(title="cosine similarity", gradientLength=160, format=".2f")
    rows = [{"value": low}, {"value": high}]
    color = alt.Color("value:Q", scale=scale, legend=bar)
    return alt.Chart(alt.Data(values=rows)).mark_point(opacity=0).encode(color=color)
