"""The Pareto front of a sweep, and the error of a budget of bytes allocated to the layers."""

from __future__ import annotations

import altair as alt
import pandas as pd

from ._curves import log_axis, small_axis, small_scale
from .series import (
    goes_by_bits,
    lower_is_better,
    metric_label,
    order_series,
    round_significant,
    setting_label,
    worst_drawn,
)
from .theme import INK, MUTED, color_scale, series_legend, styled


def front_lines(
    points: pd.DataFrame, front: pd.DataFrame, *, task: str, metric: str, original: float | None = None
) -> alt.LayerChart:
    """Draw a task's score against stored bytes, and the Pareto front.

    Parameters
    ----------
    points
        Columns ``series, keep, true_share, value``.
    front
        The rows on the Pareto front.
    task, metric, original
        The task, its metric, and the uncompressed model's score.

    Examples
    --------
    >>> rows = [("up", 0.5, 0.5, 3.0), ("svd", 0.5, 0.6, 5.0)]
    >>> points = pd.DataFrame(rows, columns=["series", "keep", "true_share", "value"])
    >>> chart = front_lines(points, points[:1], task="wikitext", metric="perplexity", original=2.5)
    """
    names = order_series(points["series"])
    log = lower_is_better(metric)
    values = [*points["value"], *([] if original is None else [original])]
    worst = worst_drawn(points["value"], original) if log else max(values)
    domain = [min(values) / 1.04, max(worst, original or 0.0) * 1.06] if log else [0, 1.02 * max(values)]
    beyond = int((points["value"] > domain[1]).sum())
    points, front = (table[table["value"] <= domain[1]] for table in (points, front))
    y = alt.Y(
        "value:Q",
        title=metric_label(metric),
        scale=alt.Scale(type="log" if log else "linear", domain=domain, nice=False),
        axis=log_axis(*domain) if log else alt.Axis(tickCount=5, format="~p"),
    )
    points, front = map(_with_bits, (points, front))
    x = alt.X(
        "bits:Q",
        title="stored bits a weight of the experts, center and indices included (original: 16)",
        scale=alt.Scale(domain=[0, max(16.0, float(points["bits"].max())) * 1.02], nice=False),
        axis=alt.Axis(values=[0, 1, 2, 3, 4, 6, 8, 12, 16]),
    )
    tooltip = [
        alt.Tooltip("series:N", title="method"),
        alt.Tooltip("setting:N", title="setting"),
        alt.Tooltip("bits:Q", title="bits a weight", format=".3~g"),
        alt.Tooltip("true_share:Q", title="bytes", format=".1%"),
        alt.Tooltip("value:Q", title=metric_label(metric), format=".4~g"),
    ]
    color = alt.Color("series:N", sort=names, scale=color_scale(names), legend=series_legend())
    dots = alt.Chart(alt.Data(values=round_significant(points).to_dict("records"))).mark_circle(size=46, opacity=1)
    line = alt.Chart(alt.Data(values=round_significant(front).to_dict("records")))
    layers = [
        line.mark_line(color=MUTED, strokeWidth=7, opacity=0.3).encode(x=x, y=y),
        dots.encode(x=x, y=y, color=color, tooltip=tooltip),
        line.mark_point(size=130, color=INK, strokeWidth=1.4).encode(x=x, y=y, tooltip=tooltip),
    ]
    if original is not None:
        rule = alt.Chart(alt.Data(values=[{}])).mark_rule(color=MUTED, strokeDash=[2, 3])
        layers.insert(0, rule.encode(y=alt.datum(original)))
    subtitle = "score against stored bits; ringed: on the front; dotted: the original"
    subtitle += f"; {beyond} points are worse than what is drawn" if beyond else ""
    title = alt.TitleParams(f"Pareto front: {task}", subtitle=subtitle)
    return styled(alt.LayerChart(layer=layers).properties(width=640, height=270, title=title))


def _with_bits(points: pd.DataFrame) -> pd.DataFrame:
    settings = [setting_label(series, keep) for series, keep in zip(points["series"], points["keep"], strict=True)]
    return points.assign(bits=16 * points["true_share"], setting=settings)


def allocation_lines(allocations: pd.DataFrame) -> alt.LayerChart:
    """Draw the mean error at every budget of bytes, with a kept fraction (or bits) for each layer and one for all.

    Parameters
    ----------
    allocations
        Columns ``method, share, allocated, uniform``.

    Examples
    --------
    >>> rows = [("up", 0.25, 0.3, 0.4), ("up", 0.5, 0.1, 0.2)]
    >>> chart = allocation_lines(pd.DataFrame(rows, columns=["method", "share", "allocated", "uniform"]))
    """
    names = order_series(allocations["method"])
    long = allocations.melt(["method", "share"], ["allocated", "uniform"], "keep", "error")
    small = any(map(goes_by_bits, names))
    word = "keep or bits" if small else "keep"
    kinds = [f"a {word} for each layer", f"one {word} for all"]
    long["keep"] = long["keep"].map(dict(zip(("allocated", "uniform"), kinds, strict=True)))
    scale = small_scale(float(long["error"].max())) if small else alt.Scale()
    axis = small_axis(scale) if small else alt.Axis()
    chart = (
        alt.Chart(alt.Data(values=round_significant(long).to_dict("records")))
        .mark_line(strokeWidth=2, interpolate="step-after")
        .encode(
            x=alt.X("share:Q", title="budget / original bytes of the experts", axis=alt.Axis(format="~p")),
            y=alt.Y("error:Q", title="relative error, mean over the layers", scale=scale, axis=axis),
            color=alt.Color(
                "method:N",
                sort=names,
                scale=color_scale(names),
                legend=alt.Legend(title=None, orient="top", columns=6, symbolType="stroke", symbolStrokeWidth=3),
            ),
            strokeDash=alt.StrokeDash(
                "keep:N",
                sort=kinds,
                scale=alt.Scale(domain=kinds, range=[[1, 0], [4, 3]]),
                legend=alt.Legend(title=None, orient="top", symbolType="stroke", symbolSize=200),
            ),
            tooltip=["method:N", "keep:N", alt.Tooltip("share:Q", format=".1%"), alt.Tooltip("error:Q", format=".4~g")],
        )
    )
    layers = alt.LayerChart(layer=[chart])
    title = alt.TitleParams("Error at a budget of bytes", subtitle=f"solid: {kinds[0]}; dashed: {kinds[1]}")
    return styled(layers.properties(width=640, height=240, title=title))
