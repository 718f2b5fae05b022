"""Figures of matrices and permutations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure

from ..permutation import PIXELS, permutation_table, rasterize_permutation
from ..raster import block_rms
from ..theme import ACCENT, HIGHLIGHT, MUTED, drawing, new_figure

_ROWS, _COLUMNS = 150, 130


def residual_figure(
    before: np.ndarray, after: np.ndarray, *, blocks: Mapping[str, tuple[int, int]], title: str
) -> Figure:
    """Draw a matrix before compression, the restored one, and their difference, in one colour scale.

    Parameters
    ----------
    before, after : (p_I, D) float arrays
        An expert or its residual, and what compression restores.
    blocks
        Names of the column blocks and where they start and stop.
    title
        Name of the matrix. Shares of its squared norm stand in brackets.
    """
    pictures = {"before": before, "kept": after, "lost": before - after}
    scaled = {name: block_rms(values, _ROWS, _COLUMNS) for name, values in pictures.items()}
    total = float(np.square(before, dtype=np.float64).sum()) or 1.0
    top = float(np.quantile(scaled["before"], 0.995)) or 1.0
    with drawing():
        figure = new_figure(7.0, 3.0)
        axes = figure.subplots(1, 3, sharey=True)
        for axis, (name, values) in zip(axes, scaled.items(), strict=True):
            share = float(np.square(pictures[name], dtype=np.float64).sum()) / total
            extent = (0, before.shape[1], before.shape[0], 0)
            # A power scale: most weights are small, and invisible on a linear one.
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
    """Draw the graph of every expert's permutation; moved neurons in a second colour.

    Parameters
    ----------
    permutations : (N, p_I) int array
    layer
        Index of the layer.
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
            axis.imshow(permutation_image(shown[expert]), interpolation="nearest", aspect="equal")
            axis.set(xticks=[], yticks=[])
            axis.set_title(f"expert {expert}: {moved:.0%} moved", weight="normal", size=8)
            for spine in axis.spines.values():
                spine.set_visible(True)
        rest = f" (8 of {len(permutations)} experts)" if len(permutations) > 8 else ""
        figure.suptitle(f"Permutations, layer {layer}{rest}", x=0.01, ha="left", size=10, weight="bold")
    return figure


def permutation_image(permutation: np.ndarray, *, pixels: int = PIXELS) -> np.ndarray:
    """Return the graph of a permutation as an (H, W, 3) image; moved neurons are in the second colour."""
    darkness, moved = rasterize_permutation(permutation, pixels=pixels)
    first, second = (np.array([int(color[i : i + 2], 16) for i in (1, 3, 5)]) / 255 for color in (ACCENT, HIGHLIGHT))
    pixel_colors = np.where(moved[:, :, None], second, first)
    return 1 - darkness[:, :, None] * (1 - pixel_colors)
