"""Singular spectra of the experts, and the tree of those that lie close together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import altair as alt
import numpy as np
import pandas as pd

from .series import round_significant
from .theme import ACCENT, MUTED, styled

#: Colours of groups of experts; links between groups are grey.
GROUP_COLORS = ("#1f78c8", "#d1570a", "#0b7d5f", "#c4679b", "#9a62c7", "#c98500", "#0f8fa3", "#b0476b")
#: How far apart unrelated experts of one size are.
UNRELATED = float(np.sqrt(2))


def spectrum_lines(values: pd.DataFrame, exponents: pd.DataFrame) -> alt.HConcatChart:
    """Draw the singular values of every expert, one chart a part, and the exponents of their tails.

    Parameters
    ----------
    values
        Columns ``layer, expert, part, rank, singular_value`` of one layer.
    exponents
        Columns ``layer, expert, part, exponent``.

    Examples
    --------
    >>> key = {"layer": 0, "expert": 0, "part": "w1"}
    >>> rows = [{**key, "rank": 1, "singular_value": 2.0}, {**key, "rank": 2, "singular_value": 1.0}]
    >>> chart = spectrum_lines(pd.DataFrame(rows), pd.DataFrame([{**key, "exponent": 3.0}]))
    """
    table = round_significant(values[values["singular_value"] > 0], 4)
    charts = []
    for part in dict.fromkeys(table["part"]):
        lines = (
            alt.Chart(alt.Data(values=table[table["part"] == part].to_dict("records")))
            .mark_line(strokeWidth=1.2, opacity=0.75, color=ACCENT)
            .encode(
                x=alt.X("rank:Q", title="rank", scale=alt.Scale(type="log")),
                y=alt.Y("singular_value:Q", title="singular value", scale=alt.Scale(type="log")),
                detail="expert:N",
                tooltip=["expert:N", "rank:Q", "singular_value:Q"],
            )
        )
        charts.append(lines.properties(width=190, height=190, title=f"Spectrum of {part}"))
    rows = round_significant(exponents.dropna(subset=["exponent"]), 4).to_dict("records")
    points = (
        alt.Chart(alt.Data(values=rows))
        .mark_point(filled=True, size=40, opacity=1)
        .encode(
            x=alt.X("expert:O", title="expert", axis=alt.Axis(labelAngle=0, labelOverlap=True)),
            y=alt.Y("exponent:Q", title="tail exponent", scale=alt.Scale(zero=False)),
            color=alt.Color("part:N", title=None, scale=alt.Scale(range=list(GROUP_COLORS))),
            shape="part:N",
            tooltip=["expert:O", "part:N", "exponent:Q"],
        )
    )
    return styled(alt.hconcat(*charts, points.properties(width=220, height=190, title="Tail exponents")))


def sharing_dendrogram(links: np.ndarray, groups: Mapping[int, int], *, layer: int) -> alt.LayerChart:
    """Draw which experts could share a center: the closer to the ground two are joined, the more alike they are.

    Parameters
    ----------
    links
        (N - 1, 4), as scipy's ``linkage`` returns it.
    groups
        Expert -> number of its group.
    layer
        Whose experts they are.

    Examples
    --------
    >>> chart = sharing_dendrogram(np.array([[0, 1, 0.5, 2]]), {0: 0, 1: 0}, layer=3)
    """
    tree = tree_lines(links, groups)
    rows = [
        {"link": number, "step": step, "x": float(x), "y": round(float(y), 5), "color": line["color"]}
        for number, line in enumerate(tree["lines"])
        for step, (x, y) in enumerate(zip(line["x"], line["y"], strict=True))
    ]
    names = ", ".join(f"{10 * place + 5}: '{expert}'" for place, expert in enumerate(tree["leaves"]))
    axis = alt.Axis(
        values=[10 * place + 5 for place in range(len(tree["leaves"]))],
        labelExpr=f"({{{names}}})[datum.value]",
        labelOverlap=True,
        grid=False,
    )
    width = max(260, min(640, 34 * len(tree["leaves"])))
    x = alt.X("x:Q", title="expert", axis=axis, scale=alt.Scale(domain=[0, max(10, 10 * len(tree["leaves"]))]))
    y = alt.Y("y:Q", title="distance, of their norm", scale=alt.Scale(domainMin=0))
    lines = (
        alt.Chart(alt.Data(values=rows))
        .mark_line(strokeWidth=1.6)
        .encode(x=x, y=y, detail="link:N", order="step:Q", color=alt.Color("color:N", scale=None), tooltip=["y:Q"])
    )
    rule = alt.Chart(alt.Data(values=[{"y": UNRELATED}])).mark_rule(color=MUTED, strokeDash=[4, 3]).encode(y="y:Q")
    title = alt.TitleParams(f"Which experts could share a center, layer {layer}", subtitle="dashed: unrelated experts")
    return styled(alt.layer(lines, rule).properties(width=width, height=200, title=title))


def tree_lines(links: np.ndarray, groups: Mapping[int, int]) -> dict[str, Any]:
    """Return the lines of a dendrogram and the order of its leaves, which stand at 5, 15, 25, ...

    Parameters
    ----------
    links, groups
        As for :func:`sharing_dendrogram`.

    Returns
    -------
    dict
        ``leaves``, and ``lines`` with ``x``, ``y`` (four points each) and ``color``: that of a group, or grey for links
        between groups.
    """
    if not len(links):
        return {"leaves": sorted(groups), "lines": []}
    from scipy.cluster.hierarchy import dendrogram

    count = len(links) + 1
    members: list[list[int]] = [[expert] for expert in range(count)]
    colors = list[str]()
    for first, second, *_ in links:
        members.append(members[int(first)] + members[int(second)])
        own = {groups[expert] for expert in members[-1]}
        colors.append(GROUP_COLORS[own.pop() % len(GROUP_COLORS)] if len(own) == 1 else MUTED)
    tree = dendrogram(links, no_plot=True, link_color_func=lambda node: colors[node - count])
    lines = [
        {"x": x, "y": y, "color": color}
        for x, y, color in zip(tree["icoord"], tree["dcoord"], tree["color_list"], strict=True)
    ]
    return {"leaves": tree["leaves"], "lines": lines}
