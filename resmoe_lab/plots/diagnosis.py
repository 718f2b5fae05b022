"""The share of the experts that a center explains, before compression."""

from __future__ import annotations

import altair as alt
import pandas as pd

from .series import round_significant
from .theme import MUTED, styled

_COLORS = ["#1f78c8", "#c98500", "#9a62c7", "#1fa583", "#d1570a", "#b0476b", "#8a8378"]


def gain_bars(gains: pd.DataFrame) -> alt.LayerChart:
    """Draw the share of the experts that each center explains, by layer, and what it would be for unrelated experts.

    Parameters
    ----------
    gains
        Columns ``layer, center, gain, by_chance``: the table of a diagnosis.

    Examples
    --------
    >>> gains = pd.DataFrame({"layer": [0], "center": ["wasserstein"], "gain": [0.9], "by_chance": [0.125]})
    >>> chart = gain_bars(gains)
    """
    table = round_significant(gains[["layer", "center", "gain", "by_chance"]])
    centers = list(dict.fromkeys(table["center"]))
    base = alt.Chart(alt.Data(values=table.to_dict("records")))
    bars = base.mark_bar(cornerRadiusEnd=2).encode(
        x=alt.X("layer:O", title="layer", axis=alt.Axis(labelAngle=0)),
        xOffset=alt.XOffset("center:N", sort=centers),
        y=alt.Y("gain:Q", title="explained by the center", axis=alt.Axis(format="~p"), scale=alt.Scale(domainMax=1)),
        color=alt.Color("center:N", sort=centers, scale=alt.Scale(domain=centers, range=_COLORS[: len(centers)])),
        tooltip=[alt.Tooltip("center:N"), alt.Tooltip("layer:O"), alt.Tooltip("gain:Q", format=".1%")],
    )
    chance = base.mark_rule(color=MUTED, strokeDash=[3, 3]).encode(y="max(by_chance):Q")
    name = base.transform_aggregate(by_chance="max(by_chance)").mark_text(
        align="left", baseline="middle", dx=6, fontSize=10, color=MUTED
    )
    label = name.transform_calculate(words="'unrelated experts: ' + format(datum.by_chance, '.1%')")
    chart = alt.LayerChart(layer=[bars, chance, label.encode(x=alt.value("width"), y="by_chance:Q", text="words:N")])
    return styled(
        chart.properties(width=640, height=230, title="Share of the experts' squared norm that the center explains")
    )
