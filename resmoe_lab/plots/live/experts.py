"""Figures of a layer's experts: similarity, norms and routing load."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from ..norms import part_colors
from ..theme import ACCENT, MUTED, drawing, new_figure

_READABLE = 10


def similarity_figure(unaligned: np.ndarray, aligned: np.ndarray, *, layer: int, center: str) -> Figure:
    """Draw the cosine similarity of the experts as stored and aligned with their center, in one colour scale.

    Parameters
    ----------
    standing, aligned : (N, N) float arrays
    layer, center
        Index of the layer and name of the center.
    """
    off_diagonal = [np.where(np.eye(len(values), dtype=bool), np.nan, values) for values in (unaligned, aligned)]
    finite = np.concatenate([values[np.isfinite(values)] for values in off_diagonal])
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    high = high if high - low > 1e-6 else low + 0.01
    with drawing():
        figure = new_figure(7.4, 3.6)
        axes = figure.subplots(1, 2)
        titles = ("as stored", f"aligned with {center}")
        for axis, values, title in zip(axes, off_diagonal, titles, strict=True):
            image = axis.imshow(values, cmap="YlGnBu", vmin=low, vmax=high, interpolation="nearest", aspect="auto")
            _annotate(axis, values, (low + high) / 2)
            axis.set_title(title, weight="normal", size=9)
            axis.set(xlabel="expert", ylabel="expert")
            axis.locator_params(integer=True, nbins=min(10, len(values)))
        figure.colorbar(image, ax=list(axes), label="cosine similarity", shrink=0.85, pad=0.02)
        figure.suptitle(f"Cosine similarity of the experts, layer {layer}", x=0.01, ha="left", size=10, weight="bold")
    return figure


def _annotate(axis: Any, values: np.ndarray, middle: float) -> None:
    if len(values) > _READABLE:
        return
    for i, j in zip(*np.nonzero(np.isfinite(values)), strict=True):
        ink = "white" if values[i, j] > middle else "#1a1d22"
        axis.text(j, i, f"{values[i, j]:.2f}", ha="center", va="center", size=6.5, color=ink)


def norms_figure(norms: pd.DataFrame, load: pd.DataFrame | None) -> Figure:
    """Draw the norms of the experts and, beside them, their share of the tokens.

    Parameters
    ----------
    norms
        Columns ``layer, expert, part, norm`` of one layer.
    load
        Columns ``layer, expert, share`` of that layer; None if it was not measured.
    """
    layer = int(norms["layer"].iloc[0])
    parts = list(dict.fromkeys(norms["part"]))
    with drawing():
        figure = new_figure(7.4, 2.9)
        axes = figure.subplots(1, 1 if load is None else 2, squeeze=False)[0]
        for (part, color), marker in zip(part_colors(parts).items(), "osv^Dx*P", strict=False):
            rows = norms[norms["part"] == part].sort_values("expert")
            axes[0].plot(rows["expert"], rows["norm"], marker, color=color, markersize=4.5, label=part)
        axes[0].set(xlabel="expert", ylabel="Frobenius norm", title=f"Norms, layer {layer}")
        axes[0].set_ylim(0, 1.32 * float(norms["norm"].max()) or 1.0)
        axes[0].locator_params(axis="x", integer=True)
        axes[0].legend(frameon=False, ncols=min(3, len(parts)), fontsize=7.5, loc="upper left", handletextpad=0.2)
        axes[0].grid(True, axis="y")
        if load is not None:
            rows = load.sort_values("expert")
            axes[1].bar(rows["expert"], rows["share"], color=ACCENT, width=0.75)
            uniform = 1 / len(rows)
            axes[1].axhline(uniform, color=MUTED, linestyle="--", linewidth=1)
            axes[1].set(xlabel="expert", ylabel="share of the tokens", title="Routing load")
            axes[1].set_ylim(0, 1.2 * max(uniform, float(rows["share"].max())))
            axes[1].annotate(
                f"uniform: {uniform:.1%}",
                (1, uniform),
                (0, 3),
                xycoords=("axes fraction", "data"),
                ha="right",
                textcoords="offset points",
                size=8,
                bbox={"boxstyle": "round,pad=0.15", "facecolor": "white", "edgecolor": "none", "alpha": 0.8},
            )
            digits = 0 if float(rows["share"].max()) > 0.05 else 1
            axes[1].yaxis.set_major_formatter(lambda value, _: f"{value:.{digits}%}")
            axes[1].locator_params(axis="y", steps=[1, 2, 5, 10])  # whole percents: the labels have no decimals
            axes[1].locator_params(axis="x", integer=True)
    return figure
