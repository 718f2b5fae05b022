"""Displacements of neurons by the permutations."""

from __future__ import annotations

from collections.abc import Mapping

import altair as alt
import numpy as np
import pandas as pd

from .series import round_significant
from .theme import ACCENT, MUTED, styled

_BINS = 20


def displacement_table(permutations: Mapping[int, np.ndarray], *, bins: int = _BINS) -> pd.DataFrame:
    """Return the histogram of abs(T_k[i] - i) / p_I over all neurons of all experts of each layer.

    Parameters
    ----------
    permutations
        Layer to (N, p_I) int array.
    bins
        Number of equal bins of [0, 1).

    Returns
    -------
    pandas.DataFrame
        Columns ``layer, low, high, share`` of the neurons in each bin, and ``random``: the share that a random
        permutation has there on average.

    Examples
    --------
    >>> table = displacement_table({0: np.array([[0, 1, 2, 3], [1, 0, 2, 3]])}, bins=2)
    >>> table["share"].tolist()
    [1.0, 0.0]
    """
    edges = np.linspace(0, 1, bins + 1)
    rows = []
    for layer, stack in permutations.items():
        width = stack.shape[1]
        displacement = np.abs(stack - np.arange(width)) / width
        counts, _ = np.histogram(displacement, edges)
        for low, high, count in zip(edges[:-1], edges[1:], counts, strict=True):
            # The distance of two uniform variables has the density 2 (1 - x).
            random = (2 * high - high**2) - (2 * low - low**2)
            rows.append((layer, float(low), float(high), count / displacement.size, float(random)))
    return pd.DataFrame(rows, columns=["layer", "low", "high", "share", "random"])


def displacement_bars(displacements: pd.DataFrame) -> alt.LayerChart:
    """Draw the histogram of displacements, beside that of a random permutation.

    Parameters
    ----------
    displacements
        As :func:`displacement_table` returns it, of one layer.

    Examples
    --------
    >>> chart = displacement_bars(displacement_table({0: np.array([[0, 1, 2, 3], [1, 0, 2, 3]])}))
    """
    layer = int(displacements["layer"].iloc[0])
    table = round_significant(displacements)
    base = alt.Chart(alt.Data(values=table.to_dict("records"))).encode(
        x=alt.X("low:Q", title="displacement |T[i] - i| / p_I", axis=alt.Axis(format="~p")),
        x2="high:Q",
    )
    tooltip = [alt.Tooltip("low:Q", format="~p"), alt.Tooltip("share:Q", format=".1%")]
    bars = base.mark_bar(color=ACCENT, binSpacing=1).encode(
        y=alt.Y("share:Q", title="share of the neurons", axis=alt.Axis(format="~p"), stack=None), tooltip=tooltip
    )
    random_steps = base.mark_rule(color=MUTED, strokeWidth=2).encode(y="random:Q")
    title = alt.TitleParams(f"Displacement of the neurons, layer {layer}", subtitle="grey: a random permutation")
    return styled(alt.LayerChart(layer=[bars, random_steps]).properties(width=520, height=200, title=title))
