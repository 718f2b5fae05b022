"""Pictures of spectra and of the tree of experts show the numbers that they are given."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.colors import to_hex

from resmoe_lab import plots
from resmoe_lab.plots.live import dendrogram_figure, spectrum_figure
from resmoe_lab.plots.spectra import GROUP_COLORS, tree_lines
from resmoe_lab.plots.theme import MUTED

#: Experts 0 and 2 at 0.2, 1 and 3 at 0.3, both pairs at 1.3.
LINKS = np.array([[0, 2, 0.2, 2], [1, 3, 0.3, 2], [4, 5, 1.3, 4]])
GROUPS = {0: 0, 1: 1, 2: 0, 3: 1}


def _spectra() -> tuple[pd.DataFrame, pd.DataFrame]:
    keys = [(0, expert, part) for expert in range(3) for part in ("w1", "w2")]
    values = [(*key, rank, (1 + key[1]) / rank) for key in keys for rank in (1, 2, 4)]
    exponents = [(*key, 2.0 + key[1]) for key in keys]
    columns = ["layer", "expert", "part"]
    return (
        pd.DataFrame(values, columns=[*columns, "rank", "singular_value"]),
        pd.DataFrame(exponents, columns=[*columns, "exponent"]),
    )


def test_a_tree_has_a_line_a_join_at_its_height_in_its_groups_colour() -> None:
    tree = tree_lines(LINKS, GROUPS)
    assert {frozenset(tree["leaves"][:2]), frozenset(tree["leaves"][2:])} == {frozenset({0, 2}), frozenset({1, 3})}
    lines = {max(line["y"]): line["color"] for line in tree["lines"]}
    assert lines == {0.2: GROUP_COLORS[0], 0.3: GROUP_COLORS[1], 1.3: MUTED}
    assert tree_lines(np.zeros((0, 4)), {0: 0}) == {"leaves": [0], "lines": []}


def test_the_figure_of_the_tree_draws_these_lines() -> None:
    axis = dendrogram_figure(LINKS, GROUPS, layer=1).axes[0]
    drawn = {round(float(max(line.get_ydata())), 3): to_hex(line.get_color()) for line in axis.get_lines()}
    assert {height: drawn[height] for height in (0.2, 0.3, 1.3)} == {
        0.2: GROUP_COLORS[0],
        0.3: GROUP_COLORS[1],
        1.3: MUTED,
    }
    assert [label.get_text() for label in axis.get_xticklabels()] == list(map(str, tree_lines(LINKS, GROUPS)["leaves"]))
    assert dendrogram_figure(np.zeros((0, 4)), {0: 0}, layer=0).axes[0].get_lines()


def test_the_figure_of_spectra_has_a_line_an_expert() -> None:
    values, exponents = _spectra()
    first, second, points = spectrum_figure(values, exponents, layer=0).axes
    for axis in (first, second):
        assert [line.get_ydata().tolist() for line in axis.get_lines()] == [[1, 0.5, 0.25], [2, 1, 0.5], [3, 1.5, 0.75]]
    assert [line.get_ydata().tolist() for line in points.get_lines()] == [[2, 3, 4], [2, 3, 4]]
    nothing = exponents.assign(exponent=np.nan)
    assert spectrum_figure(values, nothing, layer=0).axes


def test_charts_hold_the_numbers() -> None:
    values, exponents = _spectra()
    spec = plots.spectrum_lines(values, exponents).to_dict()
    assert [part["title"] for part in spec["hconcat"]] == ["Spectrum of w1", "Spectrum of w2", "Tail exponents"]
    lines = spec["hconcat"][0]["data"]["values"]
    assert [row["singular_value"] for row in lines if row["expert"] == 2] == [3, 1.5, 0.75]
    tree = plots.sharing_dendrogram(LINKS, GROUPS, layer=1).to_dict()["layer"][0]["data"]["values"]
    assert {row["y"] for row in tree} == {0.0, 0.2, 0.3, 1.3}
