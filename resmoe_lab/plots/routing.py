"""The routing load of the experts."""

from __future__ import annotations

import altair as alt
import pandas as pd

from .series import round_significant
from .theme import FONT, styled


def routing_load(routing: pd.DataFrame) -> alt.LayerChart:
    """Draw each expert's share of the tokens.

    Parameters
    ----------
    routing
        A sweep's ``routing`` table.

    Examples
    --------
    >>> chart = routing_load(pd.DataFrame({"layer": [0, 0], "expert": [0, 1], "share": [0.4, 0.6]}))
    """
    table = round_significant(routing)
    experts, layers = table["expert"].nunique(), table["layer"].nunique()
    uniform = 1 / experts
    width, height = max(260, min(720, 46 * experts)), max(60, min(560, 30 * layers))
    ticks = alt.Axis(ticks=False, domain=False, labelAngle=0, labelOverlap=True)
    base = alt.Chart(alt.Data(values=table.to_dict("records"))).encode(
        x=alt.X("expert:O", title="expert", axis=ticks),
        y=alt.Y("layer:O", title="layer", axis=ticks),
    )
    top = max(float(table["share"].max()), 2 * uniform)
    scale = alt.Scale(scheme="blues", domain=[0, top])
    legend = alt.Legend(title="share of tokens", format="~p", gradientLength=110, tickCount=4)
    cells = base.mark_rect(cornerRadius=2).encode(
        color=alt.Color("share:Q", scale=scale, legend=legend),
        tooltip=["layer:O", "expert:O", alt.Tooltip("share:Q", format=".2%")],
    )
    title = alt.TitleParams("Share of the tokens each expert receives", subtitle=f"uniform routing: {uniform:.1%}")
    chart = alt.LayerChart(layer=[cells])
    if experts <= 16 and layers <= 32:
        dark = alt.condition(alt.datum["share"] > 0.6 * top, alt.value("white"), alt.value("#1a1d22"))
        chart = alt.LayerChart(
            layer=[
                cells,
                base.mark_text(font=FONT, fontSize=10).encode(text=alt.Text("share:Q", format=".1%"), color=dark),
            ]
        )
    return styled(chart.properties(width=width, height=height, title=title, usermeta={"fixed": True}))
