"""Figures of a barycenter during its training: the point clouds and the change between evaluations."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ..theme import HIGHLIGHT, drawing, new_figure, series_colors


def clouds_figure(marginals: Sequence[np.ndarray], points: np.ndarray, *, title: str) -> Figure:
    """Draw every distribution beside the barycenter, all on one scale.

    Parameters
    ----------
    marginals
        (n, 2) points of each.
    points : (m, 2) array
        Samples of the barycenter.
    title
        Title above them.
    """
    names = [f"distribution {number}" for number in range(1, len(marginals) + 1)]
    colors = series_colors(names)
    low, high = np.percentile(np.concatenate(marginals), [0.5, 99.5], axis=0)
    middle, half = (low + high) / 2, 0.6 * float((high - low).max())
    with drawing():
        figure = new_figure(2.2 * (len(marginals) + 1), 2.6)
        axes = figure.subplots(1, len(marginals) + 1, sharex=True, sharey=True)
        clouds = [*marginals, points]
        for axis, cloud, name in zip(axes, clouds, [*names, title], strict=True):
            axis.scatter(*cloud.T, s=3, alpha=0.6, linewidths=0, color=colors.get(name, HIGHLIGHT))
            axis.set_title(name, weight="normal", size=9)
            axis.set_aspect("equal")
        axes[0].set(xlim=(middle[0] - half, middle[0] + half), ylim=(middle[1] - half, middle[1] + half))
    return figure


def drift_figure(steps: Sequence[int], drifts: Sequence[float]) -> Figure:
    """Draw the change of the barycenter since the last evaluation, as a share of its variance."""
    with drawing():
        figure = new_figure(7.4, 2.0)
        axes = figure.subplots()
        axes.plot(steps, drifts, "o-", color=HIGHLIGHT, markersize=3, linewidth=1.3)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set(xlabel="outer iteration", ylabel="change / variance", xlim=(0, max(steps) * 1.05), yscale="log")
        axes.set_title("Change of the barycenter since the last evaluation")
        axes.grid(True)
    return figure
