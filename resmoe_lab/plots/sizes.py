"""Bytes of the experts: as the paper counts them, and as stored."""

from __future__ import annotations

import altair as alt
import pandas as pd

from ._curves import over_setting
from .series import add_series, order_series, round_significant
from .theme import FONT, INK, MUTED, color_scale, styled

#: Bits of a weight of the original, in which sizes are compared.
_ORIGINAL_BITS = 16
_COUNTS = {"paper_bytes": "paper's count", "true_bytes": "really stored"}


def size_table(sizes: pd.DataFrame, *, keep: float | None = None) -> pd.DataFrame:
    """Return the bytes of each series and keep in its smallest format.

    Parameters
    ----------
    sizes
        A sweep's ``sizes`` table.
    keep
        Only the rows of this kept fraction.

    Returns
    -------
    pandas.DataFrame
        Columns ``series``, ``keep``, ``format``, ``paper_bytes``, ``true_bytes``, ``original_bytes``,
        ``model_bytes``, ``original_model_bytes``, ``paper_share`` and ``true_share`` of the original experts'
        bytes, ``model_share`` of the whole model's, and ``bits``, stored for each weight of the experts, center and
        indices included.

    Examples
    --------
    >>> row = {"method": "up", "center": "none", "keep": 0.5, "format": "bitmask", "paper_bytes": 50, "true_bytes": 56}
    >>> row |= {"original_bytes": 100, "model_bytes": 156, "original_model_bytes": 200}
    >>> size_table(pd.DataFrame([row]))["true_share"].tolist()
    [0.56]
    >>> size_table(pd.DataFrame([row]))["bits"].tolist()
    [8.96]
    """
    table = add_series(sizes)
    if keep is not None:
        table = table[(table["keep"] - keep).abs() < 1e-6]
    table = table.sort_values("true_bytes").drop_duplicates(["series", "keep"])
    table = table.assign(
        paper_share=table["paper_bytes"] / table["original_bytes"],
        true_share=table["true_bytes"] / table["original_bytes"],
        model_share=table["model_bytes"] / table["original_model_bytes"],
        bits=_ORIGINAL_BITS * table["true_bytes"] / table["original_bytes"],
    )
    rank = {name: i for i, name in enumerate(order_series(table["series"]))}
    table = table.sort_values(
        ["series", "keep"], key=lambda column: column.map(rank) if column.name == "series" else column
    )
    counts = ["format", "paper_bytes", "true_bytes", "original_bytes", "model_bytes", "original_model_bytes"]
    return table[["series", "keep", *counts, "paper_share", "true_share", "model_share", "bits"]].reset_index(drop=True)


def size_bars(sizes: pd.DataFrame) -> alt.LayerChart:
    """Draw both counts of bytes at the slider's kept fraction, or bits where all methods go by those.

    Examples
    --------
    >>> row = {"method": "up", "center": "none", "keep": 0.5, "format": "bitmask", "paper_bytes": 50, "true_bytes": 56}
    >>> row |= {"original_bytes": 100, "model_bytes": 156, "original_model_bytes": 200}
    >>> chart = size_bars(pd.DataFrame([row]))
    """
    table, across, slider = over_setting(size_table(sizes))
    names = order_series(table["series"])
    long = round_significant(table.melt(["series", across.field], ["paper_share", "true_share"], "count", "share"))
    long["count"] = long["count"].str.replace("share", "bytes").map(_COUNTS)
    top = max(1.0, float(long["share"].max())) * 1.04
    counts = list(_COUNTS.values())
    base = (
        alt.Chart(alt.Data(values=long.to_dict("records")))
        .transform_filter(slider.selects(across.field))
        .encode(
            y=alt.Y(
                "series:N",
                sort=names,
                title=None,
                axis=alt.Axis(ticks=False, domain=False, labelFontSize=12, labelPadding=8),
            ),
            yOffset=alt.YOffset("count:N", sort=counts),
            x=alt.X(
                "share:Q",
                title="bytes of the experts / original bytes",
                scale=alt.Scale(domain=[0, top], nice=False),
                axis=alt.Axis(format="~p", tickCount=6),
            ),
        )
    )
    bars = base.mark_bar(cornerRadiusEnd=2).encode(
        color=alt.Color("series:N", scale=color_scale(names), legend=None),
        opacity=alt.Opacity("count:O", sort=counts, scale=alt.Scale(domain=counts, range=[0.35, 1]), legend=None),
    )
    label = "format(datum.share, '.1%') + '  ' + datum.count"
    numbers = base.transform_calculate(label=label).mark_text(align="left", dx=5, font=FONT, color=INK, fontSize=10)
    original = alt.Chart(alt.Data(values=[{}])).mark_rule(color=MUTED, strokeDash=[2, 3], strokeWidth=1.2)
    chart = alt.LayerChart(layer=[original.encode(x=alt.datum(1.0)), bars, numbers.encode(text="label:N")])
    title = alt.TitleParams("Bytes of the compressed experts", subtitle="the paper counts the kept values only")
    chart = chart.properties(width=640, height=max(90, 46 * len(names)), title=title)
    return styled(chart.add_params(*slider.params()))
