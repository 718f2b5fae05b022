"""Accuracy of two networks averaged at all weights: OT average, vanilla average, and ensemble."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import altair as alt
import pandas as pd

from .series import round_significant
from .slider import Slider
from .theme import INK, MUTED, styled

#: The label of rows that are about all classes.
ALL = "all"
_FUSED, _PLAIN = "#1f78c8", "#d1570a"
_PARENTS = ("#7f8794", "#0b7d5f")


def mixing_styles(methods: Iterable[str]) -> dict[str, tuple[str, list[int]]]:
    """Return each method's colour and dash."""
    styles: dict[str, tuple[str, list[int]]] = {}
    parents = iter(_PARENTS)
    for method in methods:
        if method == "OT average":
            styles[method] = (_FUSED, [1, 0])
        elif method == "vanilla average":
            styles[method] = (_PLAIN, [1, 0])
        elif method == "ensemble":
            styles[method] = ("#9a62c7", [5, 3])
        else:
            styles[method] = (next(parents, MUTED), [2, 2])
    return styles


@dataclass(frozen=True)
class Mixtures:
    """A table of mixtures, split as its charts need it.

    Parameters
    ----------
    whole, classes
        The rows about all classes, and those about one.
    labels
        The classes in their order.
    styles
        Every method's colour and dash, in the methods' order.
    """

    whole: pd.DataFrame
    classes: pd.DataFrame
    labels: list[str]
    styles: dict[str, tuple[str, list[int]]]

    @classmethod
    def of(cls, table: pd.DataFrame) -> Mixtures:
        """Split a table with columns ``weight, method, label, accuracy``."""
        whole, classes = table[table["label"] == ALL], table[table["label"] != ALL]
        return cls(whole, classes, list(dict.fromkeys(classes["label"])), mixing_styles(dict.fromkeys(table["method"])))


def weight_slider(weights: Iterable[float], start: float) -> Slider:
    """Return the slider over the weights of the second network."""
    values = tuple(sorted({round(float(weight), 6) for weight in weights}))
    start = min(values, key=lambda value: abs(value - start))
    return Slider(values, start, "weight", "shown_weight", "weight of the second network")


def mixing_chart(table: pd.DataFrame, *, start: float = 0.5) -> alt.HConcatChart:
    """Draw accuracy against the mixing weight, and the accuracy on every class at the slider's weight.

    Parameters
    ----------
    table
        Columns ``weight, method, label, accuracy``; the label ``"all"`` stands for all classes.
    start
        Initial value of the slider.

    Examples
    --------
    >>> rows = [(w, "OT average", label, 90.0) for w in (0.0, 0.5, 1.0) for label in ("all", "0", "1")]
    >>> chart = mixing_chart(pd.DataFrame(rows, columns=["weight", "method", "label", "accuracy"]))
    """
    slider = weight_slider(table["weight"], start)
    mixtures = Mixtures.of(table)
    color = alt.Color(
        "method:N",
        scale=alt.Scale(domain=list(mixtures.styles), range=[color for color, _ in mixtures.styles.values()]),
        legend=alt.Legend(title=None, orient="top", columns=3, symbolType="stroke", symbolStrokeWidth=3),
    )
    left, right = _curves(mixtures, color, slider), _classes(mixtures, color, slider)
    return styled(alt.hconcat(left, right, spacing=28).add_params(*slider.params()))


def _curves(mixtures: Mixtures, color: alt.Color, slider: Slider) -> alt.LayerChart:
    data = alt.Data(values=round_significant(mixtures.whole).to_dict("records"))
    x = alt.X("weight:Q", title="weight of the second network", scale=alt.Scale(domain=[0, 1]))
    y = alt.Y("accuracy:Q", title="accuracy, %", scale=alt.Scale(zero=False))
    dashes = alt.Scale(domain=list(mixtures.styles), range=[dash for _, dash in mixtures.styles.values()])
    dash = alt.StrokeDash("method:N", scale=dashes, legend=None)
    base = alt.Chart(data).encode(x=x, y=y, color=color)
    tooltip = ["method:N", alt.Tooltip("weight:Q", format=".2f"), alt.Tooltip("accuracy:Q", format=".2f")]
    at_slider = base.transform_filter(slider.selects("weight"))
    rule = alt.Chart(alt.Data(values=[{}])).mark_rule(color=INK, strokeWidth=1.2)
    layers = [
        rule.encode(x=alt.XDatum(alt.expr(slider.shown), type="quantitative")),
        base.mark_line(strokeWidth=2).encode(strokeDash=dash, tooltip=tooltip),
        at_slider.mark_circle(size=70, opacity=1),
    ]
    title = alt.TitleParams(alt.expr(f"'Accuracy at weight ' + format({slider.shown}, '.2f')"))
    return alt.LayerChart(layer=layers).properties(width=420, height=250, title=title)


def _classes(mixtures: Mixtures, color: alt.Color, slider: Slider) -> alt.Chart:
    data = alt.Data(values=round_significant(mixtures.classes).to_dict("records"))
    points = alt.Chart(data).transform_filter(slider.selects("weight")).mark_point(filled=True, size=60, opacity=1)
    axis = alt.Axis(labelAngle=0)
    return points.encode(
        x=alt.X("label:N", title="class", sort=mixtures.labels, axis=axis),
        y=alt.Y("accuracy:Q", title="accuracy, %", scale=alt.Scale(domain=[0, 100])),
        color=color,
        tooltip=["method:N", "label:N", alt.Tooltip("accuracy:Q", format=".1f")],
    ).properties(width=300, height=250, title="Accuracy by class")
