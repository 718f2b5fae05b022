"""Norms of the experts and of their parts."""

from __future__ import annotations

import altair as alt
import pandas as pd

from .series import round_significant
from .theme import styled

#: Colours of the whole expert and of its residual; its parts are grey.
PART_COLORS = {"whole": "#1f78c8", "residual": "#d1570a"}
_PART_GREYS = ["#8a94a3", "#6f7a8a", "#a7afbb", "#566070", "#bcc3cd"]


def part_colors(parts: list[str]) -> dict[str, str]:
    """Return a colour for each part of an expert."""
    greys = iter(_PART_GREYS)
    return {part: PART_COLORS.get(part) or next(greys) for part in parts}


def norm_bars(norms: pd.DataFrame) -> alt.Chart:
    """Draw the Frobenius norms of every expert, of its parts, and of its residual.

    Parameters
    ----------
    norms
        Columns ``layer, expert, part, norm`` of one layer.

    Examples
    --------
    >>> rows = [(0, 0, "whole", 2.0), (0, 0, "residual", 0.5)]
    >>> chart = norm_bars(pd.DataFrame(rows, columns=["layer", "expert", "part", "norm"]))
    """
    parts = list(dict.fromkeys(norms["part"]))
    colors = part_colors(parts)
    table = round_significant(norms)
    experts = table["expert"].nunique()
    layer = int(table["layer"].iloc[0])
    chart = (
        alt.Chart(alt.Data(values=table.to_dict("records")))
        .mark_point(filled=True, size=46, opacity=1)
        .encode(
            x=alt.X("expert:O", title="expert", axis=alt.Axis(labelAngle=0, labelOverlap=True)),
            y=alt.Y("norm:Q", title="Frobenius norm", scale=alt.Scale(zero=True)),
            color=alt.Color(
                "part:N",
                sort=parts,
                title=None,
                scale=alt.Scale(domain=parts, range=list(colors.values())),
                legend=alt.Legend(orient="top"),
            ),
            shape=alt.Shape("part:N", sort=parts, legend=None, scale=alt.Scale(domain=parts)),
            tooltip=["expert:O", "part:N", alt.Tooltip("norm:Q", format=".4~g")],
        )
    )
    width = max(260, min(640, 46 * experts))
    return styled(chart.properties(width=width, height=200, title=f"Norms of the experts, layer {layer}"))
