"""What a byte buys: score against stored bytes with the Pareto front, and a budget allocated to the layers."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

from ..series import goes_by_bits, lower_is_better, metric_label, order_series
from ..theme import ACCENT, MUTED, drawing, has_center, new_figure, series_colors


def front_figure(
    points: pd.DataFrame, front: pd.DataFrame, *, task: str, metric: str, original: float | None = None
) -> Figure:
    """Draw a score against the stored bits a weight of the experts, and the Pareto front.

    Parameters
    ----------
    points
        Columns ``series, keep, true_share, value``.
    front
        The rows on the Pareto front.
    task, metric, original
        The task, its metric, and the uncompressed model's score.
    """
    label = f"{task}, {metric_label(metric)}"
    names = order_series(points["series"])
    colors = series_colors(names)
    with drawing():
        figure = new_figure(7.4, 3.6)
        axes = figure.subplots()
        if len(front) > 1:
            axes.plot(16 * front["true_share"], front["value"], "-", color=MUTED, linewidth=5, alpha=0.3, zorder=1)
        for name in names:
            rows = points[points["series"] == name].sort_values("keep")
            style = "o-" if has_center(name) else "o--"
            axes.plot(
                16 * rows["true_share"],
                rows["value"],
                style,
                color=colors[name],
                markersize=4,
                linewidth=1.2,
                label=name,
            )
        axes.plot(
            16 * front["true_share"],
            front["value"],
            "o",
            markersize=9,
            markerfacecolor="none",
            markeredgecolor="#1a1d22",
            linestyle="none",
            label="front",
        )
        if original is not None:
            axes.axhline(original, color=MUTED, linestyle=":", linewidth=1)
            axes.annotate(
                "original",
                (0, original),
                (3, 3),
                xycoords=("axes fraction", "data"),
                textcoords="offset points",
                size=8,
            )
        if lower_is_better(metric):
            _log_ticks(axes, points["value"])
        axes.set(xlabel="stored bits a weight of the experts (original: 16)", ylabel=label, xlim=(0, None))
        axes.set_title(f"Score against stored bits: {label}")
        axes.grid(True)
        axes.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return figure


def _log_ticks(axes: Any, values: pd.Series) -> None:
    """Set ticks at powers of ten, with 2 and 5 between them on short ranges, and labels without exponents."""
    axes.set_yscale("log")
    decades = math.log10(float(values.max()) / float(values.min()))
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if decades < 2 else (1,)))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:,g}")


def allocation_figure(table: pd.DataFrame, *, method: str, share: float) -> Figure:
    """Draw the kept fraction, or the bits, and the error of every layer, as allocated and with the same for all.

    Parameters
    ----------
    table
        As :func:`~resmoe_lab.analysis.allocation.allocate_keeps` returns it.
    method, share
        The method, and the budget as a share of the original bytes.
    """
    positions = range(len(table))
    setting, one = ("bits a weight", "one number of bits") if goes_by_bits(method) else ("kept fraction", "one keep")
    if goes_by_bits(method):
        table = table.assign(keep=16 * table["keep"], uniform_keep=16 * table["uniform_keep"])
    with drawing():
        figure = new_figure(7.4, 2.9)
        for axes, column, label in zip(
            figure.subplots(1, 2), ("keep", "relative_error"), (setting, "relative error"), strict=True
        ):
            uniform = table["uniform_keep" if column == "keep" else "uniform_error"]
            axes.bar([p - 0.2 for p in positions], table[column], 0.38, color=ACCENT, label="allocated")
            axes.bar([p + 0.2 for p in positions], uniform, 0.38, color=MUTED, label=f"{one} for all")
            step = max(1, len(table) // 12)
            axes.set_xticks(list(positions)[::step], table["layer"].tolist()[::step])
            axes.set(xlabel="layer", ylabel=label)
            axes.set_ylim(0, 1.3 * max(float(table[column].max()), float(uniform.max())) or 1.0)
            axes.grid(True, axis="y")
            axes.set_axisbelow(True)
        figure.axes[0].legend(frameon=False, fontsize=8, loc="upper left", ncols=2)
        gain = 1 - float(table["relative_error"].sum()) / (float(table["uniform_error"].sum()) or 1.0)
        title = f"{method} in {share:.0%} of the bytes: error {gain:.1%} lower than with {one} for all layers"
        figure.suptitle(title, x=0.01, ha="left", size=10, weight="bold")
    return figure
