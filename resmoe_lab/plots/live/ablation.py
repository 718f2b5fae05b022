"""Figure of what a model loses without each of its experts."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from ..ablation import LEAST, TITLES
from ..theme import drawing, new_figure

#: Up to so many experts their numbers are written into the cells.
_READABLE = 16


def ablation_figure(ablation: pd.DataFrame, *, layer: int) -> Figure:
    """Draw the KL that each missing expert causes, layers down and experts across, in one colour scale.

    Parameters
    ----------
    ablation
        Columns ``layer, expert, replaced_by, kl``.
    layer
        The layer that is marked.
    """
    names = list(dict.fromkeys(ablation["replaced_by"]))
    top = max(10 * LEAST, float(ablation["kl"].max()))
    rows = ablation["layer"].nunique()
    with drawing():
        figure = new_figure(5.0 * len(names) + 0.6, max(2.2, min(9.0, 0.42 * rows + 1.5)))
        axes = figure.subplots(1, len(names), squeeze=False)[0]
        for axis, name in zip(axes, names, strict=True):
            table = ablation[ablation["replaced_by"] == name].pivot_table(index="layer", columns="expert", values="kl")
            values = table.to_numpy().clip(min=LEAST)
            image = axis.imshow(values, cmap="OrRd", norm=LogNorm(LEAST, top), interpolation="nearest", aspect="auto")
            axis.set_yticks(range(len(table)), [f"{'▸ ' if number == layer else ''}{number}" for number in table.index])
            if len(table) > _READABLE:
                axis.locator_params(axis="y", nbins=12)
            axis.locator_params(axis="x", integer=True, nbins=min(16, values.shape[1]))
            axis.set(xlabel="expert", ylabel="layer", title=TITLES[name])
            if values.shape[1] <= _READABLE and len(table) <= _READABLE:
                middle = np.sqrt(LEAST * top)
                for i, j in zip(*np.nonzero(table.to_numpy() >= LEAST), strict=True):
                    ink = "white" if values[i, j] > 4 * middle else "#1a1d22"
                    axis.text(j, i, f"{values[i, j]:.2g}", ha="center", va="center", size=6, color=ink)
        figure.colorbar(image, ax=list(axes), label="KL, nats a token", shrink=0.9, pad=0.02)
    return figure
