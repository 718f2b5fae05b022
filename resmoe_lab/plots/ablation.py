"""What a model loses without each of its experts."""

from __future__ import annotations

import altair as alt
import pandas as pd

from .series import round_significant
from .theme import styled

#: What is told of each replacement.
TITLES = {"off": "Expert switched off", "center": "Expert replaced by the center"}
#: The least KL that colours tell apart from none, in nats a token.
LEAST = 1e-4


def ablation_heatmap(ablation: pd.DataFrame) -> alt.HConcatChart:
    """Draw the KL that each missing expert causes, layers down and experts across, in one colour scale.

    Parameters
    ----------
    ablation
        Columns ``layer, expert, replaced_by, share, kl, perplexity``.

    Examples
    --------
    >>> row = {"layer": 0, "expert": 0, "replaced_by": "off", "share": 0.1, "kl": 0.2, "perplexity": 3.0}
    >>> chart = ablation_heatmap(pd.DataFrame([row]))
    """
    table = round_significant(ablation)
    table["shade"] = table["kl"].clip(lower=LEAST)
    top = max(10 * LEAST, float(table["shade"].max()))
    scale = alt.Scale(type="log", scheme="orangered", domain=[LEAST, top])
    experts, layers = table["expert"].nunique(), table["layer"].nunique()
    axis = alt.Axis(ticks=False, domain=False, labelAngle=0, labelOverlap=True)
    charts = []
    for name in dict.fromkeys(table["replaced_by"]):
        rows = table[table["replaced_by"] == name]
        cells = (
            alt.Chart(alt.Data(values=rows.to_dict("records")))
            .mark_rect(cornerRadius=2)
            .encode(
                x=alt.X("expert:O", title="expert", axis=axis),
                y=alt.Y("layer:O", title="layer", axis=axis),
                color=alt.Color("shade:Q", scale=scale, legend=alt.Legend(title="KL, nats a token", format=".2~g")),
                tooltip=["layer:O", "expert:O", alt.Tooltip("share:Q", format=".1%"), "kl:Q", "perplexity:Q"],
            )
        )
        size = {"width": max(200, min(520, 34 * experts)), "height": max(60, min(520, 30 * layers))}
        charts.append(cells.properties(title=TITLES[str(name)], **size))
    return styled(alt.hconcat(*charts))
