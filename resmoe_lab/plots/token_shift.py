"""What compression does to single tokens, and to the routing of a layer."""

from __future__ import annotations

import altair as alt
import numpy as np
import pandas as pd

from .series import round_significant
from .theme import ACCENT, HIGHLIGHT, styled


def token_divergence(tokens: pd.DataFrame) -> alt.Chart:
    """Draw how far the prediction after each token of a text moves.

    Parameters
    ----------
    tokens
        Columns ``token, text, kl, original_next, compressed_next``.

    Examples
    --------
    >>> row = {"token": 0, "text": "One", "kl": 0.1, "original_next": " day", "compressed_next": " night"}
    >>> chart = token_divergence(pd.DataFrame([row]))
    """
    table = round_significant(tokens[["token", "text", "kl", "original_next", "compressed_next"]])
    bars = (
        alt.Chart(alt.Data(values=table.to_dict("records")))
        .mark_bar(color=HIGHLIGHT, opacity=1)
        .encode(
            x=alt.X("token:Q", title="token of the text", axis=alt.Axis(grid=False, format="d", tickMinStep=1)),
            y=alt.Y("kl:Q", title="KL of the next token, nats"),
            tooltip=["token:Q", "text:N", alt.Tooltip("kl:Q", format=".3~g"), "original_next:N", "compressed_next:N"],
        )
    )
    mean = f"{table['kl'].mean():.3g} nats a token on average"
    title = alt.TitleParams("How far each prediction moves", subtitle=mean)
    return styled(bars.properties(width=640, height=160, title=title))


def routing_shift(shift: pd.DataFrame) -> alt.HConcatChart:
    """Draw how much of the routing changes, by layer.

    Parameters
    ----------
    shift
        Columns ``layer, rerouted, moved, gate_kl``.

    Examples
    --------
    >>> row = {"layer": 0, "tokens": 9, "rerouted": 0.2, "moved": 0.1, "gate_kl": 0.01}
    >>> chart = routing_shift(pd.DataFrame([row]))
    """
    rows = round_significant(shift).to_dict("records")
    data = alt.Data(values=[row | {"gate_kl": None if np.isnan(row["gate_kl"]) else row["gate_kl"]} for row in rows])
    layer = alt.X("layer:O", title="layer", axis=alt.Axis(labelAngle=0, labelOverlap=True))
    tooltip = ["layer:O", *(alt.Tooltip(f"{name}:Q", format=".2%") for name in ("rerouted", "moved"))]
    bars = alt.Chart(data).mark_bar(color=ACCENT, opacity=1)
    share = bars.encode(
        x=layer, y=alt.Y("rerouted:Q", title="share of tokens", axis=alt.Axis(format="%")), tooltip=tooltip
    )
    gates = alt.Chart(data).mark_bar(color=HIGHLIGHT, opacity=1)
    kl = gates.encode(x=layer, y=alt.Y("gate_kl:Q", title="KL, nats"), tooltip=["layer:O", "gate_kl:Q"])
    size = {"width": 300, "height": 160}
    both = alt.hconcat(
        share.properties(title="Tokens that change an expert", **size),
        kl.properties(title="Shift of the gate's distribution", **size),
    )
    return styled(both)
