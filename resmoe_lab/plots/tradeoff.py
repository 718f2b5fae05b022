"""What a byte buys: error and score against stored bytes."""

from __future__ import annotations

import altair as alt
import pandas as pd

from ._curves import log_axis, small_axis, small_scale
from .series import (
    goes_by_bits,
    lower_is_better,
    mean_over_layers,
    metric_label,
    order_series,
    round_significant,
    setting_label,
    task_values,
    worst_drawn,
)
from .sizes import size_table
from .slider import Slider, keep_slider
from .theme import MUTED, color_scale, dash_scale, series_legend, styled

_PANELS = {
    "paper_share": "as the paper counts: residual values only",
    "true_share": "as stored: indices and center too",
}


def error_by_bytes(errors: pd.DataFrame, sizes: pd.DataFrame) -> alt.HConcatChart:
    """Draw relative error against both counts of bytes.

    Parameters
    ----------
    errors, sizes
        The tables of a sweep.

    Examples
    --------
    >>> key = {"method": ["up"], "center": ["none"], "keep": [0.5]}
    >>> errors = pd.DataFrame({**key, "layer": [0], "relative_error": [0.2]})
    >>> sizes = {"format": ["bitmask"], "paper_bytes": [50], "true_bytes": [56], "original_bytes": [100]}
    >>> sizes = pd.DataFrame({**key, **sizes, "model_bytes": [156], "original_model_bytes": [200]})
    >>> chart = error_by_bytes(errors, sizes)
    """
    table = mean_over_layers(errors).merge(size_table(sizes), on=["series", "keep"])
    title = alt.TitleParams("Relative error against bytes", subtitle="mean over the layers, of the experts as stored")
    return _by_bytes(table, "relative approximation error", log=False, small=True).properties(title=title)


def score_by_bytes(scores: pd.DataFrame, sizes: pd.DataFrame, task: str) -> alt.HConcatChart:
    """Draw one task's score against both counts of bytes.

    Parameters
    ----------
    scores, sizes
        The tables of a sweep.
    task
        One of the tasks in `scores`.

    Examples
    --------
    >>> key = {"method": ["up"], "center": ["none"], "keep": [0.5]}
    >>> scores = pd.DataFrame({**key, "task": ["piqa"], "metric": ["acc"], "value": [0.7], "stderr": [0.01]})
    >>> sizes = {"format": ["bitmask"], "paper_bytes": [50], "true_bytes": [56], "original_bytes": [100]}
    >>> sizes = pd.DataFrame({**key, **sizes, "model_bytes": [156], "original_model_bytes": [200]})
    >>> chart = score_by_bytes(scores, sizes, "piqa")
    """
    table, references, metric = task_values(scores, task)
    table = table.merge(size_table(sizes), on=["series", "keep"])
    words = metric_label(metric)
    chart = _by_bytes(table, words, log=lower_is_better(metric), original=references.get("original"))
    return chart.properties(title=alt.TitleParams(f"{task} against bytes", subtitle=words))


def _by_bytes(
    table: pd.DataFrame, title: str, *, log: bool, small: bool = False, original: float | None = None
) -> alt.HConcatChart:
    by_bits = table["series"].map(goes_by_bits).astype(bool)
    # The slider is of kept fractions; points of methods that go by bits have none.
    slider = None if by_bits.all() else keep_slider(table.loc[~by_bits, "keep"])
    table = table.assign(setting=list(map(setting_label, table["series"], table["keep"])))
    table = round_significant(table[["series", "keep", "value", "bits", "setting", *_PANELS]])
    table["at"] = table["keep"].where(~by_bits, -1.0)
    values = [*table["value"], *([] if original is None else [original])]
    low, high = min(values), max(values)
    if log:
        high = max(worst_drawn(table["value"], original), original or 0.0)
    margin = 0.05 * (high - low or 1.0)
    domain = [low / 1.04, high * 1.06] if log else [low - margin if low > 0 else 0, high + margin]
    scale = alt.Scale(type="log" if log else "linear", domain=domain, nice=False)
    axis = log_axis(*domain) if log else alt.Axis(tickCount=5, format="~g")
    if small and by_bits.any():
        scale = small_scale(high)
        axis = small_axis(scale)
    y = alt.Y("value:Q", title=title, scale=scale, axis=axis)
    right = max(1.0, float(table[list(_PANELS)].max().max())) * 1.02
    source = alt.Data(values=table.to_dict("records"))
    names = order_series(table["series"])
    panels = [_panel(source, names, share, y=y, right=right, slider=slider, original=original) for share in _PANELS]
    return styled(alt.hconcat(*panels, spacing=28).add_params(*(slider.params() if slider else ())))


def _panel(
    source: alt.Data,
    names: list[str],
    share: str,
    *,
    y: alt.Y,
    right: float,
    slider: Slider | None,
    original: float | None,
) -> alt.LayerChart:
    base = alt.Chart(source).encode(
        x=alt.X(
            f"{share}:Q",
            title="bytes of the experts / original bytes",
            scale=alt.Scale(domain=[0, right], nice=False),
            axis=alt.Axis(format="~p", tickCount=5),
        ),
        y=y,
        color=alt.Color("series:N", scale=color_scale(names), sort=names, legend=series_legend()),
        tooltip=[
            alt.Tooltip("series:N", title="method"),
            alt.Tooltip("setting:N", title="setting"),
            alt.Tooltip(f"{share}:Q", title="bytes", format=".1%"),
            alt.Tooltip("bits:Q", title="stored bits a weight", format=".3~g"),
            alt.Tooltip("value:Q", format=".4~g"),
        ],
    )
    # Points are joined in the order of the kept fraction, not of their bytes: a format may get smaller as keep grows.
    lines = base.mark_line(strokeWidth=2, clip=True).encode(
        order="keep:Q", strokeDash=alt.StrokeDash("series:N", scale=dash_scale(names), legend=series_legend())
    )
    edges = [alt.Chart(alt.Data(values=[{}])).mark_rule(color=MUTED, strokeDash=[2, 3]).encode(x=alt.datum(1.0))]
    if original is not None:
        edges.append(
            alt.Chart(alt.Data(values=[{}])).mark_rule(color=MUTED, strokeDash=[2, 3]).encode(y=alt.datum(original))
        )
    layers = [*edges, lines, base.mark_circle(size=20, opacity=1, clip=True)]
    if slider is not None:
        layers.append(base.transform_filter(slider.selects("at")).mark_circle(size=110, opacity=1, clip=True))
    title = alt.TitleParams(_PANELS[share], fontWeight="normal", fontSize=12)
    return alt.LayerChart(layer=layers).properties(width=390, height=260, title=title)
