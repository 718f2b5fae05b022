"""Figure of how routing changes."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from ..theme import ACCENT, HIGHLIGHT, drawing, new_figure

#: Up to so many experts the counts are written into the matrix.
_READABLE = 12


def routing_figure(shift: pd.DataFrame, moves: np.ndarray, *, layer: int) -> Figure:
    """Draw how many tokens change their experts in each layer, and in one layer from which to which.

    Parameters
    ----------
    shift
        Columns ``layer, rerouted, gate_kl``.
    moves
        (N, N) int64: tokens of `layer` by their expert before and after.
    layer
        The layer of `moves`.
    """
    with drawing():
        figure = new_figure(9.6, 3.3)
        left, middle, right = figure.subplots(1, 3, width_ratios=(1, 1, 1.15))
        positions = np.arange(len(shift))
        for axis, column, color, title in (
            (left, "rerouted", ACCENT, "Tokens that change an expert"),
            (middle, "gate_kl", HIGHLIGHT, "Shift of the gate (KL, nats)"),
        ):
            colors = [color if number == layer else f"{color}88" for number in shift["layer"]]
            axis.bar(positions, shift[column], color=colors, width=0.7)
            axis.set_xticks(positions, [str(number) for number in shift["layer"]])
            if len(shift) > 16:
                axis.locator_params(axis="x", nbins=12)
            axis.set(xlabel="layer", title=title)
        left.yaxis.set_major_formatter(lambda value, _: f"{100 * value:g} %")
        share = moves / np.maximum(moves.sum(axis=1, keepdims=True), 1)
        right.imshow(share, cmap="Blues", vmin=0, vmax=1, interpolation="nearest", aspect="auto")
        if len(moves) <= _READABLE:
            for i, j in zip(*np.nonzero(moves), strict=True):
                ink = "white" if share[i, j] > 0.55 else "#1a1d22"
                right.text(j, i, str(moves[i, j]), ha="center", va="center", size=6.5, color=ink)
        right.locator_params(integer=True, nbins=min(10, len(moves)))
        right.set(xlabel="expert after", ylabel="expert before", title=f"Who goes where, layer {layer}")
    return figure
