"""The permutations that align the experts with their center."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import altair as alt
import numpy as np
import pandas as pd

from .raster import data_uri, two_color_png
from .slider import Slider, layer_slider
from .theme import ACCENT, FONT, HIGHLIGHT, INK, MUTED, styled

_COLUMNS = 4
#: Largest side of a permutation's picture where many stand on one page.
PIXELS = 150
_MOST_EXPERTS = 16
_MOST_LAYERS = 16


def permutation_table(permutations: Mapping[int, np.ndarray]) -> pd.DataFrame:
    """Return how far each expert's permutation is from the identity.

    Returns
    -------
    pandas.DataFrame
        Columns ``layer``, ``expert``, ``displaced`` (share of the neurons with T_k[i] != i) and ``distance`` (mean
        of abs(T_k[i] - i) / p_I over all neurons; a random permutation has about 1/3).

    Examples
    --------
    >>> permutation_table({0: np.array([[0, 1, 2, 3], [1, 0, 2, 3]])})
       layer  expert  displaced  distance
    0      0       0        0.0     0.000
    1      0       1        0.5     0.125
    """
    rows = []
    for layer, stack in permutations.items():
        index = np.arange(stack.shape[1])
        distance = np.abs(stack - index)
        for expert in range(len(stack)):
            displaced, mean = (distance[expert] > 0).mean(), distance[expert].mean() / stack.shape[1]
            rows.append((layer, expert, float(displaced), float(mean)))
    return pd.DataFrame(rows, columns=["layer", "expert", "displaced", "distance"])


def rasterize_permutation(permutation: np.ndarray, *, pixels: int = PIXELS) -> tuple[np.ndarray, np.ndarray]:
    """Return the graph of i -> T_k[i] as an image: darkness (pixels, pixels), row 0 on top, and where T_k[i] != i.

    Parameters
    ----------
    permutation : (p_I,) int array
    pixels
        Largest side of the picture; a narrower layer gets one pixel a neuron. A pixel that any neuron falls into is
        visible; it is darkest where it is as dense as the identity.
    """
    width = len(permutation)
    side = min(pixels, width)
    index = np.arange(width)
    pixel = (permutation * side // width, index * side // width)
    cells, moved = np.zeros((side, side)), np.zeros((side, side))
    np.add.at(cells, pixel, 1)
    np.add.at(moved, pixel, permutation != index)
    darkness = np.where(cells > 0, np.clip(0.75 + 0.25 * cells * side / width, 0, 1), 0.0)
    return darkness, moved > 0


def permutation_map(permutations: Mapping[int, np.ndarray]) -> alt.LayerChart:
    """Draw the graph of every expert's permutation, one layer at a time behind a slider.

    The diagonal is the identity: the expert's neurons already have the center's order. Scattered points mean that the
    experts share neurons only after alignment.

    Parameters
    ----------
    permutations
        Layer to (N, p_I) int array. Of many layers or experts, evenly spread ones are drawn.

    Examples
    --------
    >>> chart = permutation_map({0: np.array([[0, 1, 2, 3], [1, 0, 2, 3]])})
    """
    layers = _evenly_spaced(sorted(permutations), _MOST_LAYERS)
    experts = _evenly_spaced(range(len(permutations[layers[0]])), _MOST_EXPERTS)
    slider = layer_slider(layers)
    rows = _panels({layer: permutations[layer] for layer in layers}, experts)
    columns = min(_COLUMNS, len(experts))
    lines = -(-len(experts) // columns)
    chart = _draw(rows, columns, lines, slider).properties(
        width=columns * 165,
        height=lines * 185,
        title=alt.TitleParams(
            alt.expr(f"'Permutations of the experts, layer ' + {slider.shown}"),
            subtitle="neuron i of the center (across) is neuron T[i] of the expert (down); orange: T[i] is not i",
        ),
        usermeta={"fixed": True},
    )
    return styled(chart.add_params(*slider.params()))


def _panels(permutations: Mapping[int, np.ndarray], experts: list[int]) -> list[dict]:
    """Return one row a panel: its image, its position in the grid and its caption."""
    facts = permutation_table(permutations).set_index(["layer", "expert"])
    rows = []
    for layer, stack in permutations.items():
        for index, expert in enumerate(experts):
            line, column = divmod(index, _COLUMNS)
            moved, mean = facts["displaced"][layer, expert], facts["distance"][layer, expert]
            rows.append(
                {
                    **{
                        "layer": layer,
                        "expert": expert,
                        "url": data_uri(
                            two_color_png(*rasterize_permutation(stack[expert]), colors=(ACCENT, HIGHLIGHT))
                        ),
                    },
                    **{"x": column, "x2": column + 0.92, "y": line + 0.17, "y2": line + 0.99},
                    **{"displaced": round(moved, 4), "distance": round(mean, 4)},
                    "name": f"expert {expert}",
                    "caption": "identity" if moved == 0 else f"{moved:.0%} moved, mean shift {mean:.0%}",
                }
            )
    return rows


def _draw(rows: list[dict], columns: int, lines: int, slider: Slider) -> alt.LayerChart:
    x = alt.X("x:Q", scale=alt.Scale(domain=[0, columns], nice=False), axis=None)
    y = alt.Y("y:Q", scale=alt.Scale(domain=[lines, 0], nice=False), axis=None)
    base = alt.Chart(alt.Data(values=rows)).transform_filter(slider.selects("layer")).encode(x=x, y=y)
    tooltip = [
        alt.Tooltip("name:N", title="panel"),
        alt.Tooltip("displaced:Q", title="neurons moved", format=".1%"),
        alt.Tooltip("distance:Q", title="mean distance", format=".1%"),
    ]
    frame = base.mark_rect(fill=None, stroke=MUTED, strokeOpacity=0.45).encode(x2="x2:Q", y2="y2:Q")
    picture = base.mark_image(aspect=False, smooth=False).encode(x2="x2:Q", y2="y2:Q", url="url:N", tooltip=tooltip)
    text: Any = {"align": "left", "baseline": "bottom", "font": FONT, "color": INK}
    name = base.mark_text(**text, dy=-17, fontSize=11, fontWeight=600).encode(text="name:N")
    caption = base.mark_text(**text, dy=-4, fontSize=10, opacity=0.75).encode(text="caption:N")
    return alt.LayerChart(layer=[frame, picture, name, caption])


def _evenly_spaced(items: list[int] | range, most: int) -> list[int]:
    """Return at most `most` of the items, evenly spaced, with the first and the last."""
    if len(items) <= most:
        return list(items)
    return [items[i] for i in np.linspace(0, len(items) - 1, most).round().astype(int)]
