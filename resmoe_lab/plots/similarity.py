"""How alike the aligned experts of a layer are."""

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

    Experts that are alike have much in common to keep once; experts that are not leave a large residual.

    Parameters
    ----------
    similarity
        Layer to (N, N) float array.
    """
    apart = {layer: np.where(np.eye(len(values), dtype=bool), np.nan, values) for layer, values in similarity.items()}
    known = np.concatenate([values[np.isfinite(values)] for values in apart.values()] or [np.zeros(1)])
    low, high = (float(known.min()), float(known.max())) if known.size else (0.0, 1.0)
    if high - low < 1e-6:
        low, high = low - 0.01, high + 0.01
    experts = len(next(iter(similarity.values())))
    slider = layer_slider(similarity)
    layers = [_frames(apart, low, high, selects=slider.selects("layer")), _legend(low, high)]
    if experts <= _READABLE:
        layers.append(_numbers(apart, (low + high) / 2, selects=slider.selects("layer")))
    text = alt.expr(f"'Cosine similarity of the aligned experts, layer ' + {slider.shown}")
    chart = alt.LayerChart(layer=layers).properties(
        width=_SIDE, height=_SIDE, title=alt.TitleParams(text), usermeta={"square": True, "beside": 150}
    )
    return styled(chart.add_params(*slider.params()))


def _frames(apart: Mapping[int, np.ndarray], low: float, high: float, *, selects: str) -> alt.Chart:
    rows: list[dict[str, Any]] = []
    for layer, values in apart.items():
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


def _numbers(apart: Mapping[int, np.ndarray], middle: float, *, selects: str) -> alt.Chart:
    rows = [
        {"layer": layer, "row": i, "column": j, "value": float(f"{values[i, j]:.4g}")}
        for layer, values in apart.items()
        for i, j in zip(*np.nonzero(np.isfinite(values)), strict=True)
    ]
    rows = [row | {"row": int(row["row"]), "column": int(row["column"])} for row in rows]
    ink = alt.condition(alt.datum["value"] > middle, alt.value("white"), alt.value("#1a1d22"))
    base = alt.Chart(alt.Data(values=rows)).transform_filter(selects).mark_text(font=FONT, fontSize=10)
    tooltip = [alt.Tooltip(name) for name in ("layer:Q", "row:Q", "column:Q", "value:Q")]
    return base.encode(x="column:Q", y="row:Q", text=alt.Text("value:Q", format=".2f"), color=ink, tooltip=tooltip)


def _legend(low: float, high: float) -> alt.Chart:
    """Nothing but a colour bar: pictures bring none of their own."""
    scale = alt.Scale(scheme="yellowgreenblue", domain=[low, high])
    bar = alt.Legend(title="cosine similarity", gradientLength=160, format=".2f")
    rows = [{"value": low}, {"value": high}]
    color = alt.Color("value:Q", scale=scale, legend=bar)
    return alt.Chart(alt.Data(values=rows)).mark_point(opacity=0).encode(color=color)
