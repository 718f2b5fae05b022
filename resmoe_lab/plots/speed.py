"""Speed and memory of a checkpoint: original, restored and factored."""

from __future__ import annotations

import altair as alt
import pandas as pd

from .series import round_significant
from .theme import ACCENT, FONT, INK, styled

#: Column of a table of :class:`~resmoe_lab.runtime.bench.Bench` rows -> its words, and what it is divided by.
_MEASURES: dict[str, tuple[str, float]] = {
    "weight_bytes": ("weights, MB", 1e6),
    "peak_bytes": ("peak memory, MB", 1e6),
    "first_token_seconds": ("time to first token, ms", 1e-3),
    "tokens_per_second": ("tokens per second", 1.0),
}


def speed_bars(rows: pd.DataFrame) -> alt.HConcatChart:
    """Draw weights, memory, time to the first token and tokens per second, a bar for each way to run.

    Parameters
    ----------
    rows
        Columns ``way``, ``weight_bytes``, ``peak_bytes``, ``first_token_seconds``, ``tokens_per_second``.

    Examples
    --------
    >>> rows = {"way": ["original"], "weight_bytes": [6e7], "peak_bytes": [7e7]}
    >>> rows |= {"first_token_seconds": [0.05], "tokens_per_second": [40.0]}
    >>> chart = speed_bars(pd.DataFrame(rows))
    """
    ways = list(rows["way"])
    panels = []
    for column, (words, unit) in _MEASURES.items():
        table = round_significant(pd.DataFrame({"way": ways, "value": rows[column] / unit}))
        base = alt.Chart(alt.Data(values=table.to_dict("records"))).encode(
            y=alt.Y("way:N", sort=ways, title=None, axis=alt.Axis(ticks=False, domain=False)),
            x=alt.X(
                "value:Q",
                title=words,
                scale=alt.Scale(domain=[0, 1.3 * float(table["value"].max())], nice=False),
                axis=alt.Axis(tickCount=3, format="~s"),
            ),
            tooltip=["way:N", alt.Tooltip("value:Q", title=words, format=".4~g")],
        )
        number = base.mark_text(align="left", dx=4, font=FONT, color=INK, fontSize=10)
        bars = base.mark_bar(color=ACCENT, cornerRadiusEnd=2)
        layers = [bars, number.encode(text=alt.Text("value:Q", format=",.3~r"))]
        panels.append(alt.LayerChart(layer=layers).properties(width=125, height=26 * len(ways)))
    return styled(alt.hconcat(*panels, spacing=20))
