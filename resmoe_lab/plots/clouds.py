"""Barycenters of point clouds in the plane, and errors against the dimension."""

from __future__ import annotations

import math

import altair as alt
import pandas as pd

from .._core.deprecation import renamed_arguments
from .series import round_significant
from .slider import Slider
from .theme import HIGHLIGHT, color_scale, series_legend, styled

_SIDE = 340


def cloud_slider(weights: list[float], *, start: float, label: str) -> Slider:
    """Return the slider over the weights that barycenters were computed for.

    Examples
    --------
    >>> cloud_slider([0.0, 0.5, 1.0], start=0.5, label="weight").start
    0.5
    """
    return Slider(tuple(weights), start, "cloud_weight", "shown_cloud_weight", label)


def barycenter_clouds(marginals: pd.DataFrame, barycenters: pd.DataFrame, *, slider: Slider) -> alt.LayerChart:
    """Draw point clouds and their barycenter at the slider's weight.

    Parameters
    ----------
    marginals
        Columns ``distribution, x, y``.
    barycenters
        Columns ``weight, x, y``.
    slider
        Over the weights.

    Examples
    --------
    >>> marginals = pd.DataFrame({"distribution": ["A", "B"], "x": [0.0, 2.0], "y": [0.0, 1.0]})
    >>> barycenters = pd.DataFrame({"weight": [0.0, 1.0], "x": [2.0, 0.0], "y": [1.0, 0.0]})
    >>> slider = cloud_slider([0.0, 1.0], start=0.0, label="weight of A")
    >>> chart = barycenter_clouds(marginals, barycenters, slider=slider)
    """
    names = list(dict.fromkeys(marginals["distribution"]))
    low = float(marginals[["x", "y"]].min().min())
    high = float(marginals[["x", "y"]].max().max())
    scale = alt.Scale(domain=[low, high], nice=True)
    color = alt.Color("distribution:N", scale=color_scale(names), legend=series_legend())
    marginal_chart = alt.Chart(alt.Data(values=round_significant(marginals, digits=3).to_dict("records")))
    background = marginal_chart.mark_circle(size=9, opacity=0.35).encode(
        x=alt.X("x:Q", scale=scale, title=None), y=alt.Y("y:Q", scale=scale, title=None), color=color
    )
    rows = round_significant(barycenters, digits=3).to_dict("records")
    barycenter_chart = alt.Chart(alt.Data(values=rows)).transform_filter(slider.selects("weight"))
    foreground = barycenter_chart.mark_circle(size=16, opacity=0.8, color=HIGHLIGHT).encode(x="x:Q", y="y:Q")
    title = alt.TitleParams("Distributions and their barycenter", subtitle="orange: samples of the barycenter")
    chart = alt.LayerChart(layer=[background, foreground]).properties(width=_SIDE, height=_SIDE, title=title)
    return styled(chart.add_params(*slider.params()))


def training_drift(history: pd.DataFrame) -> alt.Chart:
    """Draw the change of the barycenter between evaluations of a training.

    Parameters
    ----------
    history
        Columns ``step, drift``.

    Examples
    --------
    >>> chart = training_drift(pd.DataFrame({"step": [10, 20], "drift": [0.5, 0.1]}))
    """
    rows = history.loc[history["drift"] > 0, ["step", "drift"]]
    chart = alt.Chart(alt.Data(values=round_significant(rows).to_dict("records"))).mark_line(
        point=True, color=HIGHLIGHT
    )
    chart = chart.encode(
        x=alt.X("step:Q", title="outer iteration", axis=alt.Axis(format="d", grid=False)),
        y=alt.Y("drift:Q", title="change / variance", scale=alt.Scale(type="log"), axis=alt.Axis(format="~g")),
        tooltip=[alt.Tooltip("step:Q"), alt.Tooltip("drift:Q", format=".3~g")],
    )
    title = alt.TitleParams(
        "Convergence of the training", subtitle="change of the barycenter since the last evaluation"
    )
    return styled(chart.properties(width=520, height=180, title=title))


@renamed_arguments(words="label")
def error_by_dimension(errors: pd.DataFrame, *, label: str) -> alt.LayerChart:
    """Draw errors against the dimension, one line a solver, both axes logarithmic.

    Parameters
    ----------
    errors
        Columns ``solver, dimension, value`` (percent, above zero).
    label
        Name of the errors.

    Examples
    --------
    >>> errors = pd.DataFrame({"solver": ["not", "not"], "dimension": [2, 4], "value": [0.02, 0.1]})
    >>> chart = error_by_dimension(errors, label="L2-UVP")
    """
    names = list(dict.fromkeys(errors["solver"]))
    low, high = (math.log10(value) for value in (errors["value"].min(), errors["value"].max()))
    decades = [10.0**power for power in range(math.floor(low), math.ceil(high) + 1)]
    base = alt.Chart(
        alt.Data(values=round_significant(errors[["solver", "dimension", "value"]]).to_dict("records"))
    ).encode(
        x=alt.X(
            "dimension:Q",
            scale=alt.Scale(type="log", base=2),
            axis=alt.Axis(values=sorted(set(errors["dimension"].tolist())), grid=False),
            title="dimension",
        ),
        y=alt.Y(
            "value:Q",
            scale=alt.Scale(type="log", domain=[decades[0], decades[-1]]),
            axis=alt.Axis(format="~g", values=decades),
            title=f"{label}, percent",
        ),
        color=alt.Color("solver:N", scale=color_scale(names), legend=series_legend()),
        tooltip=["solver:N", "dimension:Q", alt.Tooltip("value:Q", format=".3~g")],
    )
    layers = [base.mark_line(strokeWidth=2), base.mark_circle(size=45, opacity=1)]
    return styled(alt.LayerChart(layer=layers).properties(width=520, height=260, title="Error by dimension"))
