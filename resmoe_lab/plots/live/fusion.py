"""The figure of two networks averaged at all weights."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..fusion import Mixtures
from ..theme import drawing, new_figure


def mixing_figure(table: pd.DataFrame, weight: float) -> Figure:
    """Draw accuracy against the mixing weight, and the accuracy on every class at the slider's weight.

    Parameters
    ----------
    table
        Columns ``weight, method, label, accuracy``; the label ``"all"`` stands for all classes.
    weight
        Weight of the second network.
    """
    mixtures = Mixtures.of(table)
    with drawing():
        figure = new_figure(8.6, 3.6)
        left, right = figure.subplots(1, 2, width_ratios=(1.25, 1))
        left.axvline(weight, color="#1a1d22", linewidth=1)
        for name, (color, dash) in mixtures.styles.items():
            rows = mixtures.whole[mixtures.whole["method"] == name].sort_values("weight")
            left.plot(
                rows["weight"],
                rows["accuracy"],
                color=color,
                linestyle="-" if dash == [1, 0] else (0, tuple(dash)),
                linewidth=2.2 if name == "OT average" else 1.4,
                label=name,
            )
            at_weight = rows[np.isclose(rows["weight"], weight)]
            left.plot(at_weight["weight"], at_weight["accuracy"], "o", color=color, markersize=6)
        _bars(right, mixtures, weight)
        left.set(xlabel="weight of the second network", ylabel="accuracy, %", xlim=(0, 1))
        left.set_title(f"Accuracy at weight {weight:.2f}")
        left.grid(True)
        figure.legend(*left.get_legend_handles_labels(), frameon=False, fontsize=8, ncols=5, loc="outside lower left")
    return figure


def _bars(axes: Axes, mixtures: Mixtures, weight: float) -> None:
    """Draw a group of bars for each class, so that methods with equal accuracies do not hide one another."""
    rows = mixtures.classes[np.isclose(mixtures.classes["weight"], weight)]
    styles, labels = mixtures.styles, mixtures.labels
    step = 0.7 / len(styles)
    for index, (name, (color, _)) in enumerate(styles.items()):
        values = rows[rows["method"] == name].set_index("label")["accuracy"].reindex(labels)
        shift = (index - (len(styles) - 1) / 2) * step
        axes.bar(np.arange(len(labels)) + shift, values, step, color=color)
    axes.set(xlabel="class", ylabel="accuracy, %", ylim=(0, 105))
    axes.set_xticks(range(len(labels)), labels)
    axes.set_title("Accuracy by class")
    axes.grid(True, axis="y")
    axes.set_axisbelow(True)
