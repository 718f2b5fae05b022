"""The layout of error and score charts: curves over the kept fraction, and the values at one of them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import altair as alt
import pandas as pd

from .series import goes_by_bits, order_series, round_significant
from .slider import Slider, bits_slider, keep_slider
from .theme import FONT, INK, MUTED, color_scale, dash_scale

_WIDTH, _VALUES_WIDTH, _HEIGHT = 480, 290, 240


@dataclass(frozen=True)
class Measure:
    """The quantity that is drawn.

    Parameters
    ----------
    title
        The axis title, with the unit.
    number
        A d3 format for values.
    ticks
        A d3 format for the axis.
    log
        Draw the values on a logarithmic axis.
    small
        Draw them on an axis that is logarithmic down to a thousandth, and shows 0: for errors of which some are a
        hundred times smaller than others.
    base
        Value where the stems start: 0 for an error, the uncompressed model's value for a score.
    """

    title: str
    number: str = ".3f"
    ticks: str = "~g"
    log: bool = False
    small: bool = False
    base: float = 0.0


@dataclass(frozen=True)
class Across:
    """What the curves are drawn against.

    Parameters
    ----------
    field
        Its column.
    title
        The axis title.
    number
        A d3 format for values.
    top
        The end of the axis.
    shown
        What the values on the right are at, behind the number.
    """

    field: str = "keep"
    title: str = "kept fraction"
    number: str = "~p"
    top: float = 1.0
    shown: str = "kept"


#: Kept fractions.
KEPT = Across()
_SMALL = 1e-3


def over_setting(table: pd.DataFrame) -> tuple[pd.DataFrame, Across, Slider]:
    """Return a table with what its methods were told in a column of its own, and the slider of that.

    That is their kept fraction; their bits a weight where all of them go by those.
    """
    if not all(map(goes_by_bits, set(table["series"]))):
        return table, KEPT, keep_slider(table["keep"])
    table = table.drop(columns="bits", errors="ignore").assign(bits=16 * table["keep"])
    label = "bits a weight, as the method was told"
    return (
        table,
        Across("bits", label, "~g", float(table["bits"].max()), "bits"),
        bits_slider(table["bits"], label=label),
    )


def curves_and_values(
    table: pd.DataFrame,
    measure: Measure,
    slider: Slider,
    *,
    references: Mapping[str, float] | None = None,
    across: Across = KEPT,
) -> alt.HConcatChart:
    """Draw curves over the kept fraction on the left and, on the right, every value at the slider's fraction.

    Parameters
    ----------
    table
        Columns ``series``, ``keep``, ``value`` and, for intervals, ``low`` and ``high``.
    references
        Horizontal lines by name.
    across
        What the curves are drawn against, and the slider is of.
    """
    references = dict(references or {})
    table = round_significant(table)
    scale = _value_scale(table, measure, references)
    source = alt.Data(values=table.to_dict("records"))
    left = _curves(source, table, measure, scale=scale, shown=slider.shown, across=across)
    if references:
        left = alt.LayerChart(layer=[*_reference_lines(references, scale), left])
    right = _values(source, table, measure, scale=scale, slider=slider, across=across)
    left = left.properties(width=_WIDTH, height=_HEIGHT)
    return alt.hconcat(left, right, spacing=24).add_params(*slider.params())


def _value_scale(table: pd.DataFrame, measure: Measure, references: Mapping[str, float]) -> alt.Scale:
    values = [*table["value"], *references.values()]
    low, high = min(values), max(values)
    if measure.log:
        return alt.Scale(type="log", domain=[low / 1.03, high * 1.05], nice=False)
    if measure.small:
        return small_scale(high)
    low = min(low, measure.base)
    margin = 0.04 * (high - low or 1.0)
    return alt.Scale(domain=[low if low == 0 else low - margin, high + margin], nice=False, zero=False)


def _curves(
    source: alt.Data, table: pd.DataFrame, measure: Measure, *, scale: alt.Scale, shown: str, across: Across
) -> alt.LayerChart:
    names = order_series(table["series"])
    grid = alt.Axis(format=across.number, tickCount=6)
    x = alt.X(f"{across.field}:Q", title=across.title, axis=grid, scale=alt.Scale(domain=[0, across.top]))
    y = alt.Y("value:Q", title=measure.title, scale=scale, axis=_axis(measure, scale, 6))
    color = alt.Color("series:N", scale=color_scale(names), legend=None)
    dash = alt.StrokeDash("series:N", scale=dash_scale(names), legend=None)
    tooltip = [
        alt.Tooltip("series:N", title="method"),
        alt.Tooltip(f"{across.field}:Q", title=across.title, format=across.number),
        alt.Tooltip("value:Q", title=measure.title, format=measure.number),
    ]
    base = alt.Chart(source).encode(x=x, y=y, color=color)
    lines = base.mark_line(strokeWidth=2).encode(strokeDash=dash)
    points = base.mark_circle(size=26, opacity=1).encode(tooltip=tooltip)
    rule = alt.Chart(alt.Data(values=[{}])).mark_rule(color=INK, strokeWidth=1.2)
    return alt.LayerChart(layer=[rule.encode(x=alt.XDatum(alt.expr(shown), type="quantitative")), lines, points])


def _axis(measure: Measure, scale: alt.Scale, ticks: int) -> alt.Axis:
    if measure.log:
        return log_axis(*scale.domain)
    if measure.small:
        return small_axis(scale, few=ticks < 6)
    return alt.Axis(tickCount=ticks, format=measure.ticks)


def log_axis(low: float, high: float) -> alt.Axis:
    """Ticks at 1, 2 and 5 times the powers of ten, fewer over a long range: vega would draw a line for each digit."""
    if high / low < 3:
        step = 10.0 ** math.floor(math.log10(high - low))
        step *= 0.5 if (high - low) / step > 2.5 else 0.2
        counts = range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)
        return alt.Axis(values=[round(count * step, 10) for count in counts][:: max(1, len(counts) // 6)], format="~g")
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    digits = (1, 2, 5) if math.log10(high / low) < 2.5 else (1,)
    values = [digit * 10.0**decade for decade in decades[:: max(1, len(decades) // 6)] for digit in digits]
    return alt.Axis(values=[value for value in values if low <= value <= high], format="~s")


def small_scale(high: float) -> alt.Scale:
    """The scale of values of which some are a hundred times smaller than others, and some may be 0."""
    return alt.Scale(type="symlog", constant=_SMALL, domain=[0, 1.15 * high or 1.0], nice=False)


def small_axis(scale: alt.Scale, *, few: bool = False) -> alt.Axis:
    """Its ticks."""
    values = [0, 0.001, 0.01, 0.1, 1] if few else [0, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1]
    return alt.Axis(values=[value for value in values if value <= scale.domain[1]], format="~g")


def _reference_lines(references: Mapping[str, float], scale: alt.Scale) -> list[alt.Chart]:
    """Horizontal lines with their names."""
    rows = [{"name": name, "value": value} for name, value in references.items()]
    base = alt.Chart(alt.Data(values=rows)).encode(y=alt.Y("value:Q", scale=scale))
    lines = base.mark_rule(color=MUTED, strokeDash=[2, 3], strokeWidth=1.2)
    text: Any = {"dy": -6, "fontSize": 10, "opacity": 0.8, "font": FONT, "color": INK}
    # Lines may coincide, so each name has its own horizontal position.
    middle = alt.XDatum(0.5, type="quantitative")
    positions: dict[str, Any] = {"chance": ("left", alt.value(0), 3), "center-only": ("center", middle, 0)}
    names = []
    for name in references:
        align, x, shift = positions.get(name, ("right", alt.value("width"), -3))
        name_text = base.transform_filter(f"datum.name == '{name}'").mark_text(align=align, dx=shift, **text)
        names.append(name_text.encode(x=x, text="name:N"))
    return [lines, *names]


def _values(
    source: alt.Data, table: pd.DataFrame, measure: Measure, *, scale: alt.Scale, slider: Slider, across: Across
) -> alt.LayerChart:
    names = order_series(table["series"])
    axis = alt.Axis(title=None, ticks=False, domain=False, labelPadding=8, labelFontSize=12)
    y = alt.Y("series:N", sort=names, scale=alt.Scale(domain=names), axis=axis)
    x = alt.X("value:Q", title=measure.title, scale=scale, axis=_axis(measure, scale, 4))
    color = alt.Color("series:N", scale=color_scale(names), legend=None)
    base = alt.Chart(source).transform_filter(slider.selects(across.field)).encode(y=y, color=color)
    stems = base.mark_rule(strokeWidth=3, opacity=0.45).encode(x=x, x2=alt.datum(measure.base))
    layers = [stems, base.mark_circle(size=90, opacity=1).encode(x=x)]
    if "low" in table:
        layers.insert(1, base.mark_rule(strokeWidth=1.2, color=INK).encode(x=alt.X("low:Q", scale=scale), x2="high:Q"))
    number = base.mark_text(align="center", dy=-12, fontWeight=600, color=INK).encode(
        x=x, text=alt.Text("value:Q", format=measure.number), color=alt.value(INK)
    )
    height = max(90, min(_HEIGHT, 46 * len(names)))
    title = alt.TitleParams(
        alt.expr(f"'at ' + format({slider.shown}, '{across.number}') + ' {across.shown}'"),
        fontWeight="normal",
        fontSize=12,
    )
    return alt.LayerChart(layer=[*layers, number]).properties(width=_VALUES_WIDTH, height=height, title=title)
