from __future__ import annotations

import numpy as np
import pytest

from resmoe_lab.plots import displacement_bars, displacement_table


def test_the_shares_of_a_layer_add_up_and_a_random_one_looks_random() -> None:
    stack = np.stack([np.random.default_rng(seed).permutation(4000) for seed in range(3)])
    table = displacement_table({2: stack})
    assert table["share"].sum() == pytest.approx(1)
    assert table["random"].sum() == pytest.approx(1)
    assert np.abs(table["share"] - table["random"]).max() < 0.01


def test_the_identity_stays_in_the_first_bin() -> None:
    table = displacement_table({0: np.arange(50)[None]})
    assert table["share"].tolist() == [1.0] + [0.0] * 19


def test_the_chart_says_its_layer(texts) -> None:
    said = texts(displacement_bars(displacement_table({3: np.arange(50)[None]})))
    assert "Displacement of the neurons, layer 3" in said
