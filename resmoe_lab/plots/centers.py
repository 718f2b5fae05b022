"""The search for a center: its objective after each step, and the lower bound."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import altair as alt

from .theme import FONT, INK, MUTED, styled


def center_history(
    history: Mapping[int, Sequence[float]], *, lower_bounds: Mapping[int, float] | None = None
) -> alt.LayerChart:
    """Draw the objective after each step of the search, relative to the lower bound where there is one.

    Parameters
    ----------
    history
        Layer to the objective after each step.
    lower_bounds
        Layer to the lower bound of any center's objective.

    Examples
    --------
    >>> chart = center_history({0: [4.0, 3.0, 2.5]}, lower_bounds={0: 2.0})
    >>> chart.title.text
    'Search for the center'
    """
    bounds = lower_bounds or {}
    rows = []
    for layer, objectives in history.items():
        bound = bounds.get(layer, 0.0)
        for step, value in enumerate(objectives):
            excess = (value - bound) / bound if bound else value
            rows.append({"layer": f"layer {layer}", "step": step, "value": float(f"{excess:.6g}")})
    title = "(objective - lower bound) / lower bound" if bounds else "objective (mean squared distance)"
    base = alt.Chart(alt.Data(values=rows)).encode(
        x=alt.X("step:Q", title="step", axis=alt.Axis(tickMinStep=1, format="d", grid=False)),
        y=alt.Y(
            "value:Q", title=title, axis=alt.Axis(format="~%" if bounds else "~g"), scale=alt.Scale(zero=bool(bounds))
        ),
        color=alt.Color(
            "layer:O", sort=[f"layer {layer}" for layer in history], scale=alt.Scale(scheme="viridis"), title=None
        ),
    )
    tooltip = [alt.Tooltip("layer:N"), alt.Tooltip("step:Q"), alt.Tooltip("value:Q", format=".4~g")]
    bound_line = alt.Chart(alt.Data(values=[{}])).mark_rule(color=MUTED, strokeDash=[2, 3]).encode(y=alt.datum(0))
    layers = [base.mark_line(strokeWidth=2), base.mark_circle(size=40, opacity=1).encode(tooltip=tooltip)]
    if bounds:
        name = alt.Chart(alt.Data(values=[{"t": "lower bound"}]))
        name = name.mark_text(align="right", dx=-4, dy=-7, fontSize=10, font=FONT, color=INK)
        layers = [bound_line, name.encode(x=alt.value("width"), y=alt.datum(0), text="t:N"), *layers]
    words = alt.TitleParams("Search for the center", subtitle="objective after each step")
    return styled(alt.LayerChart(layer=layers).properties(width=520, height=230, title=words))
