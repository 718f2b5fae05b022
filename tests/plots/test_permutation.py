from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from resmoe_lab.experiments.sweep import Sweep
from resmoe_lab.plots import permutation_map, permutation_table
from resmoe_lab.plots.permutation import rasterize_permutation


def test_the_table_counts_moved_neurons_and_how_far() -> None:
    table = permutation_table({4: np.array([[0, 1, 2, 3], [3, 1, 2, 0]])})
    assert table[["layer", "expert"]].to_numpy().tolist() == [[4, 0], [4, 1]]
    assert table["displaced"].tolist() == [0.0, 0.5]
    assert table["distance"].tolist() == pytest.approx([0.0, (3 + 3) / 4 / 4])


def test_a_random_permutation_is_a_third_of_the_width_away() -> None:
    width = 4000
    random = np.random.default_rng(0).permutation(width)[None]
    assert permutation_table({0: random})["distance"][0] == pytest.approx(1 / 3, abs=0.01)


def test_the_picture_has_the_neuron_down_and_the_center_across() -> None:
    darkness, moved = rasterize_permutation(np.array([1, 2, 0, 3]))
    expected = np.zeros((4, 4), dtype=bool)
    for i, target in enumerate([1, 2, 0, 3]):
        expected[target, i] = True
    assert np.array_equal(darkness > 0, expected)
    assert np.array_equal(moved, expected & ~np.eye(4, dtype=bool))


def test_no_neuron_of_a_wide_layer_is_lost() -> None:
    width, pixels = 1000, 70
    permutation = np.random.default_rng(1).permutation(width)
    darkness, _ = rasterize_permutation(permutation, pixels=pixels)
    cells = {(target * pixels // width, i * pixels // width) for i, target in enumerate(permutation)}
    assert {tuple(cell) for cell in np.argwhere(darkness > 0).tolist()} == cells


def test_the_map_says_how_much_moved(sweep: Sweep, texts: Callable[..., list[str]]) -> None:
    for layer, stack in sweep.permutations.items():
        labels = texts(permutation_map(sweep.permutations), layer=layer)
        for expert, permutation in enumerate(stack):
            moved = float(np.mean(permutation != np.arange(len(permutation))))
            assert f"expert {expert}" in labels
            captions = [text for text in labels if text.startswith(f"{moved:.0%} moved")]
            assert captions if moved else "identity" in labels


def test_a_large_model_stays_small() -> None:
    stacks = {layer: np.stack([np.random.default_rng(k).permutation(1400) for k in range(64)]) for layer in range(20)}
    chart = permutation_map(stacks)
    assert len(chart.to_json()) < 2_500_000
