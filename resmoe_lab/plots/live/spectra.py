"""Figures of the experts' singular spectra, and of which of them could share a center."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

from ..spectra import GROUP_COLORS, UNRELATED, tree_lines
from ..theme import MUTED, drawing, new_figure

#: Up to so many experts every leaf of the tree has its number.
_READABLE = 64


def spectrum_figure(values: pd.DataFrame, exponents: pd.DataFrame, *, layer: int) -> Figure:
    """Draw the singular values of every expert, one picture a part, and the exponents of their tails.

    Parameters
    ----------
    values, exponents
        As for :func:`resmoe_lab.plots.spectrum_lines`.
    layer
        Whose experts they are.
    """
    parts = list(dict.fromkeys(values["part"]))
    positive = values[values["singular_value"] > 0]
    count = values["expert"].nunique()
    with drawing():
        figure = new_figure(2.3 * len(parts) + 3.0, 2.9)
        axes = figure.subplots(1, len(parts) + 1)
        for axis, part in zip(axes, parts, strict=False):
            for expert, rows in positive[positive["part"] == part].groupby("expert"):
                color = GROUP_COLORS[int(str(expert)) % len(GROUP_COLORS)] if count <= len(GROUP_COLORS) else "#1f78c8"
                axis.plot(rows["rank"], rows["singular_value"], color=color, linewidth=1, alpha=0.8)
            axis.set(xscale="log", yscale="log", xlabel="rank", title=part)
            # Less than a decade high: tens alone would leave an axis without a number.
            axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axis.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
            axis.yaxis.set_minor_locator(NullLocator())
            axis.grid(True)
        axes[0].set_ylabel("singular value")
        for part, color, marker in zip(parts, GROUP_COLORS, "osv^Dx*P", strict=False):
            rows = exponents[exponents["part"] == part].sort_values("expert")
            axes[-1].plot(rows["expert"], rows["exponent"], marker, color=color, markersize=4.5, label=part)
        low, high = exponents["exponent"].min(), exponents["exponent"].max()
        if np.isfinite(high):
            # Room for the legend above the points.
            axes[-1].set_ylim(low - 0.1 * (high - low + 0.1), high + 0.5 * (high - low + 0.1))
        axes[-1].set(xlabel="expert", ylabel="exponent", title="Tail exponents")
        axes[-1].locator_params(axis="x", integer=True)
        axes[-1].legend(frameon=False, ncols=len(parts), fontsize=7.5, loc="upper left", handletextpad=0.2)
        axes[-1].grid(True, axis="y")
        figure.suptitle(f"Singular spectra of the experts, layer {layer}", x=0.01, ha="left", size=10, weight="bold")
    return figure


def dendrogram_figure(links: np.ndarray, groups: Mapping[int, int], *, layer: int) -> Figure:
    """Draw which experts could share a center.

    Parameters
    ----------
    links, groups, layer
        As for :func:`resmoe_lab.plots.sharing_dendrogram`.
    """
    tree = tree_lines(links, groups)
    leaves = tree["leaves"]
    with drawing():
        figure = new_figure(max(7.4, min(11.0, 1.6 + 0.28 * len(leaves))), 2.9)
        axis = figure.subplots()
        for line in tree["lines"]:
            axis.plot(line["x"], line["y"], color=line["color"], linewidth=1.4)
        axis.axhline(UNRELATED, color=MUTED, linestyle="--", linewidth=1)
        axis.annotate("unrelated", (1, UNRELATED), (0, 3), xycoords=("axes fraction", "data"),
                      textcoords="offset points", ha="right", size=8)  # fmt: skip
        axis.set(xlim=(0, max(10, 10 * len(leaves))), xlabel="expert", ylabel="distance, of their norm")
        axis.set_ylim(0, 1.12 * max(UNRELATED, float(links[-1, 2]) if len(links) else 0.0))
        shown = range(0, len(leaves), -(-len(leaves) // _READABLE))
        axis.set_xticks([10 * place + 5 for place in shown], [str(leaves[place]) for place in shown])
        axis.tick_params(axis="x", labelsize=8 if len(leaves) <= 24 else 6)
        axis.set_title(f"Which experts could share a center, layer {layer}")
    return figure
