"""Figures of an alignment: one permutation, the displacements, and the search for the center."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from ..displacement import displacement_table
from ..permutation import permutation_table
from ..theme import ACCENT, MUTED, drawing, new_figure
from .matrices import permutation_image

#: Largest side of a permutation's image, in pixels.
PIXELS = 256


def alignment_figure(permutations: np.ndarray, *, layer: int, expert: int) -> Figure:
    """Draw one expert's permutation as an image of at most 256 x 256, and the histogram of its displacements.

    Parameters
    ----------
    permutations : (N, p_I) int array
    layer, expert
        Index of the layer and of the expert.
    """
    permutation = permutations[expert : expert + 1]
    width = permutation.shape[1]
    facts = permutation_table({layer: permutation}).iloc[0]
    bins = displacement_table({layer: permutation})
    with drawing():
        figure = new_figure(7.4, 3.5)
        picture, histogram = figure.subplots(1, 2, width_ratios=(1, 1.15))
        picture.imshow(
            permutation_image(permutation[0], pixels=PIXELS), interpolation="nearest", extent=(0, width, width, 0)
        )
        picture.set(xlabel="neuron of the center", ylabel=f"neuron of expert {expert}")
        picture.locator_params(nbins=4, integer=True)
        picture.set_title(f"{facts['displaced']:.0%} moved", weight="normal", size=9)
        histogram.bar(bins["low"], bins["share"], bins["high"] - bins["low"], align="edge", color=ACCENT, alpha=0.9)
        histogram.step(bins["low"], bins["random"], where="post", color=MUTED, label="a random permutation")
        histogram.set(xlabel="displacement |T[i] - i| / p_I", ylabel="share of the neurons", xlim=(0, 1))
        histogram.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
        histogram.set_title(f"mean displacement {facts['distance']:.0%}", weight="normal", size=9)
        histogram.legend(frameon=False, fontsize=8)
        figure.suptitle(f"Permutation of expert {expert}, layer {layer}", x=0.01, ha="left", size=10, weight="bold")
    return figure


def search_figure(steps: Sequence[float], *, lower_bound: float | None = None, running: bool = False) -> Figure:
    """Draw the objective after each step of the search.

    Parameters
    ----------
    steps
        The objective after each step so far.
    lower_bound
        Lower bound of any center's objective, where it is known.
    running
        Whether the search is still running.
    """
    with drawing():
        figure = new_figure(7.4, 2.4)
        axes = figure.subplots()
        axes.plot(range(1, len(steps) + 1), steps, "o-", color=ACCENT, markersize=4, linewidth=1.5)
        values = list(steps)
        if lower_bound is not None:
            axes.axhline(lower_bound, color=MUTED, linestyle="--", linewidth=1)
            axes.annotate(
                "lower bound",
                (1, lower_bound),
                (0, 3),
                xycoords=("axes fraction", "data"),
                size=8,
                textcoords="offset points",
                ha="right",
            )
            values.append(lower_bound)
        # Keeps differences of mere rounding from filling the axis.
        margin = max(0.12 * (max(values) - min(values)), 0.01 * abs(values[0])) or 1.0
        axes.set(ylim=(min(values) - margin, max(values) + 1.5 * margin), xlabel="step", ylabel="objective")
        axes.set_xlim(0.7, max(2, len(steps)) + 0.3)
        axes.locator_params(axis="x", integer=True)
        axes.ticklabel_format(axis="y", useOffset=False)
        axes.set_title(f"Search for the center{', running' if running else ''}")
        axes.grid(True)
    return figure
