"""The figure of task scores with their intervals."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from ..series import metric_label
from ..theme import drawing, new_figure, series_colors


def scores_figure(scores: pd.DataFrame) -> Figure:
    """Draw every task's main score with its 95 % interval, one row a model.

    Parameters
    ----------
    scores
        Columns ``label, method, task, metric, value, stderr``; one metric a task.
    """
    tasks = list(dict.fromkeys(scores["task"]))
    labels = list(dict.fromkeys(scores["label"]))
    colors = series_colors(dict.fromkeys(scores["method"]))
    with drawing():
        figure = new_figure(max(4.2, 2.5 * len(tasks)), 1.35 + 0.32 * len(labels))
        axes = figure.subplots(1, len(tasks), sharey=True, squeeze=False)[0]
        for axis, task in zip(axes, tasks, strict=True):
            rows = scores[scores["task"] == task].drop_duplicates("label")
            top = 0.0
            for row in rows.itertuples():
                spread = 0.0 if pd.isna(row.stderr) else 1.96 * float(row.stderr)
                position, color = labels.index(row.label), colors[row.method]
                axis.errorbar(row.value, position, xerr=spread, fmt="o", color=color, capsize=3, markersize=6)
                axis.annotate(
                    f"{row.value:.3g}", (row.value, position), (0, 7), textcoords="offset points", ha="center", size=8
                )
                top = max(top, float(row.value) + spread)
            metric = str(rows["metric"].iloc[0])
            limit = 1.08 if metric.startswith("acc") else 1.15 * top
            axis.set(xlim=(0, limit), xlabel=metric_label(metric))
            axis.set_ylim(len(labels) - 0.5, -0.8)
            axis.set_title(task.replace("storyworld_", "storyworld\n"), size=9, weight="normal")
            axis.grid(True, axis="x")
        axes[0].set_yticks(range(len(labels)), labels)
    return figure
