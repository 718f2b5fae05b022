"""The map of a checkpoint as a chart: a bar a layer, a colour a part."""

from __future__ import annotations

from collections.abc import Mapping

import altair as alt
import pandas as pd

from .._core.units import human_bytes
from .theme import styled

#: The colours of the picture in the panels (modelmap.js).
PART_COLORS = {
    "embeddings": "#8a8378",
    "attention": "#5f6fd9",
    "router": "#c4679b",
    "center": "#239549",
    "experts": "#1f78c8",
    "shared expert": "#0f8fa3",
    "feed-forward": "#6b8a2e",
    "norms": "#c98500",
    "head": "#8a8378",
}


def model_map_bars(forms: Mapping[str, pd.DataFrame]) -> alt.HConcatChart:
    """Draw the bytes of a checkpoint by layer and part, one chart a form, all on one scale.

    Parameters
    ----------
    forms
        Name -> columns ``row, part, expert, stored, weights, bytes``, in the order in which rows are drawn.

    Examples
    --------
    >>> line = {"row": "0", "part": "experts", "expert": 0, "stored": "bf16", "weights": 8, "bytes": 16}
    >>> chart = model_map_bars({"as stored": pd.DataFrame([line])})
    """
    summed = {name: _summed(table) for name, table in forms.items()}
    longest = max(float(table.groupby("row")["bytes"].sum().max()) for table in summed.values())
    return styled(alt.hconcat(*(_bars(table, name, longest) for name, table in summed.items())))


def _summed(table: pd.DataFrame) -> pd.DataFrame:
    grouped = table.groupby(["row", "part"], sort=False)
    summed = grouped.agg(bytes=("bytes", "sum"), weights=("weights", "sum"), stored=("stored", "first")).reset_index()
    summed["bits"] = (8 * summed["bytes"] / summed["weights"].clip(lower=1)).round(3)
    return summed


def _bars(table: pd.DataFrame, name: str, longest: float) -> alt.Chart:
    rows, parts = list(dict.fromkeys(table["row"])), list(PART_COLORS)
    table = table.assign(place=[parts.index(part) for part in table["part"]])
    share = 100 * float(table.loc[table["part"].isin(["experts", "center"]), "bytes"].sum() / table["bytes"].sum())
    title = alt.TitleParams(name, subtitle=f"{human_bytes(table['bytes'].sum())}, {share:.0f} % of it the experts")
    axis = alt.Axis(ticks=False, domain=False, labelOverlap=True)
    return (
        alt.Chart(alt.Data(values=table.to_dict("records")))
        .mark_bar(opacity=1)
        .encode(
            x=alt.X(
                "bytes:Q", title="bytes", scale=alt.Scale(domain=[0, longest]), axis=alt.Axis(format="~s", tickCount=4)
            ),
            y=alt.Y("row:N", title=None, sort=rows, axis=axis),
            color=alt.Color(
                "part:N",
                sort=parts,
                title=None,
                scale=alt.Scale(domain=parts, range=list(PART_COLORS.values())),
                legend=alt.Legend(orient="bottom", columns=5),
            ),
            order=alt.Order("place:Q"),
            tooltip=[
                "row:N",
                "part:N",
                "stored:N",
                alt.Tooltip("bytes:Q", format=",d"),
                alt.Tooltip("bits:Q", format=".3~g"),
            ],
        )
        .properties(width=300, height=max(60, min(640, 18 * len(rows))), title=title)
    )
