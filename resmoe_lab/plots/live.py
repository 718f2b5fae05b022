"""Pictures that a living kernel redraws at every move of a slider: matplotlib figures, never pyplot's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure

from .permutation import permutation_picture, permutation_table
from .raster import shrink
from .series import mean_over_layers, ordered
from .theme import ACCENT, HIGHLIGHT, MUTED, drawing, new_figure, series_colors

_ROWS, _COLUMNS = 150, 130


def error_figure(errors: pd.DataFrame, *, keep: float, layer: int) -> Figure:
    """Draw one layer's relative error against the kept fraction and every method's value at `keep`.

    Parameters
    ----------
    errors
        A table as :func:`resmoe_lab.error_curves` returns it.
    keep
        Where the vertical line stands; the nearest computed values are shown.
    layer
        Which layer.
    """
    table = mean_over_layers(errors, layer)
    names = ordered(table["series"])
    colors = series_colors(names)
    with drawing():
        figure = new_figure(7.0, 3.0)
        curves, values = figure.subplots(1, 2, width_ratios=(3, 2))
        curves.axvline(keep, color="#1a1d22", linewidth=1)
        for place, name in enumerate(names):
            rows = table[table["series"] == name].sort_values("keep")
            style = "-" if name.startswith("resmoe") else "--"
            curves.plot(rows["keep"], rows["value"], style, color=colors[name], linewidth=1.6)
            value = float(rows["value"].iloc[(rows["keep"] - keep).abs().argmin()])
            curves.plot(keep, value, "o", color=colors[name], markersize=5)
            values.hlines(place, 0, value, color=colors[name], linewidth=3, alpha=0.45)
            values.plot(value, place, "o", color=colors[name], markersize=7)
            values.annotate(
                f"{value:.3f}", (value, place), (0, 7), textcoords="offset points", ha="center", weight="bold"
            )
        _finish_axes(curves, values, names, top=float(table["value"].max()))
        curves.set_title(f"Relative error, layer {layer}")
        values.set_title(f"at keep {keep:g}", weight="normal")
    return figure


def _finish_axes(curves: Any, values: Any, names: Sequence[str], *, top: float) -> None:
    top = 1.08 * top or 1.0
    curves.set(xlim=(0, 1.01), ylim=(0, top), xlabel="kept fraction")
    curves.grid(True)
    values.set(xlim=(0, top), ylim=(len(names) - 0.4, -0.7), yticks=range(len(names)), yticklabels=list(names))
    values.tick_params(left=False)
    values.spines["left"].set_visible(False)
    values.grid(True, axis="x")


def residual_figure(
    before: np.ndarray, after: np.ndarray, *, blocks: Mapping[str, tuple[int, int]], title: str
) -> Figure:
    """Draw a matrix before compression, what is kept of it, and what is lost, in one colour scale.

    Parameters
    ----------
    before, after : (p_I, D) float arrays
        An expert or its residual, and what compression restores.
    blocks
        Names of the column blocks and where they start and stop.
    title
        What the matrix is. In brackets, the shares of the matrix' squared norm.
    """
    pictures = {"before": before, "kept": after, "lost": before - after}
    scaled = {name: shrink(values, _ROWS, _COLUMNS) for name, values in pictures.items()}
    total = float(np.square(before, dtype=np.float64).sum()) or 1.0
    top = float(np.quantile(scaled["before"], 0.995)) or 1.0
    with drawing():
        figure = new_figure(7.0, 3.0)
        axes = figure.subplots(1, 3, sharey=True)
        for axis, (name, values) in zip(axes, scaled.items(), strict=True):
            share = float(np.square(pictures[name], dtype=np.float64).sum()) / total
            extent = (0, before.shape[1], before.shape[0], 0)
            # A root scale: most weights are small, and a linear one would show an empty picture.
            image = axis.imshow(
                values,
                cmap="YlGnBu",
                norm=PowerNorm(0.6, 0, top),
                extent=extent,
                aspect="auto",
                interpolation="nearest",
            )
            axis.set_title(f"{name} ({share:.0%})", weight="normal", size=9)
            _mark_blocks(axis, blocks)
        axes[0].set_ylabel("neuron")
        figure.colorbar(image, ax=list(axes), label="root mean square", shrink=0.9, pad=0.02)
        figure.suptitle(title, x=0.01, ha="left", size=10, weight="bold")
    return figure


def _mark_blocks(axis: Any, blocks: Mapping[str, tuple[int, int]]) -> None:
    axis.set_xticks([(start + stop) / 2 for start, stop in blocks.values()], list(blocks))
    axis.tick_params(bottom=False)
    for start, _ in list(blocks.values())[1:]:
        axis.axvline(start, color=MUTED, linewidth=0.6)


def permutation_figure(permutations: np.ndarray, *, layer: int) -> Figure:
    """Draw the graph of every expert's permutation; neurons that are not at their own place in a second colour.

    Parameters
    ----------
    permutations : (N, p_I) int array
    layer
        Which layer they are of.
    """
    shown = permutations[:8]
    facts = permutation_table({layer: shown})
    columns = min(4, len(shown))
    lines = -(-len(shown) // columns)
    with drawing():
        figure = new_figure(7.0, 0.5 + 1.75 * lines)
        axes = figure.subplots(lines, columns, squeeze=False).ravel()
        for axis in axes[len(shown) :]:
            axis.set_visible(False)
        for expert, (axis, moved) in enumerate(zip(axes, facts["displaced"], strict=False)):
            axis.imshow(_inked(shown[expert]), interpolation="nearest", aspect="equal")
            axis.set(xticks=[], yticks=[])
            axis.set_title(f"expert {expert}: {moved:.0%} moved", weight="normal", size=8)
            for spine in axis.spines.values():
                spine.set_visible(True)
        rest = f" (8 of {len(permutations)} experts)" if len(permutations) > 8 else ""
        figure.suptitle(f"Who went where, layer {layer}{rest}", x=0.01, ha="left", size=10, weight="bold")
    return figure


def _inked(permutation: np.ndarray) -> np.ndarray:
    darkness, moved = permutation_picture(permutation)
    first, second = (np.array([int(color[i : i + 2], 16) for i in (1, 3, 5)]) / 255 for color in (ACCENT, HIGHLIGHT))
    ink = np.where(moved[:, :, None], second, first)
    return 1 - darkness[:, :, None] * (1 - ink)
