from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from resmoe_lab.experiments.sweep import TABLES
from resmoe_lab.methods import METHODS
from resmoe_lab.plots.series import (
    add_series,
    lower_is_better,
    mean_over_layers,
    order_series,
    round_significant,
    task_values,
)
from resmoe_lab.plots.theme import METHOD_COLORS, series_colors


def _luminance(color: str) -> float:
    parts = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("paper", ["#ffffff", "#15181d"])
def test_every_color_can_be_seen_on_light_and_on_dark(paper: str) -> None:
    for color in METHOD_COLORS.values():
        bright, dim = sorted([_luminance(color), _luminance(paper)], reverse=True)
        assert (bright + 0.05) / (dim + 0.05) > 2.8, color


def test_every_method_has_a_color_of_its_own() -> None:
    names = METHODS.names()
    assert set(names) <= set(METHOD_COLORS)
    assert len({METHOD_COLORS[name] for name in names}) == len(names)


def test_unknown_series_get_colors_that_differ() -> None:
    colors = series_colors(["up", "mine", "yours", "up"])
    assert colors["up"] == METHOD_COLORS["up"]
    assert len(set(colors.values())) == 3


def test_another_center_is_another_series() -> None:
    rows = [
        ("resmoe-up", "wasserstein"),
        ("resmoe-up", "average"),
        ("up", "none"),
        ("up", np.nan),
        ("original", "none"),
    ]
    names = add_series(pd.DataFrame(rows, columns=["method", "center"]))["series"].tolist()
    assert names == ["resmoe-up", "resmoe-up · average", "up", "up", "original"]
    assert order_series(names) == ["resmoe-up", "resmoe-up · average", "up", "original"]


def test_the_mean_is_over_layers_only() -> None:
    rows = [(0, "up", "none", 0.5, 1.0, 0.2), (1, "up", "none", 0.5, 1.0, 0.4), (1, "up", "none", 0.25, 1.0, 0.9)]
    errors = pd.DataFrame(rows, columns=list(TABLES["errors"]))
    mean = mean_over_layers(errors).set_index("keep")["value"]
    assert mean.to_dict() == pytest.approx({0.25: 0.9, 0.5: 0.3})
    assert mean_over_layers(errors, 0)["value"].tolist() == [0.2]


def test_a_task_has_its_first_metric_its_ends_and_its_interval() -> None:
    rows = [
        ("original", "none", 1.0, "t", "perplexity", 10.0, 0.1, 5),
        ("original", "none", 1.0, "t", "word_perplexity", 99.0, 0.1, 5),
        ("center-only", "wasserstein", 0.0, "t", "perplexity", 50.0, 0.1, 5),
        ("up", "none", 0.5, "t", "perplexity", 12.0, 0.5, 5),
        ("up", "none", 0.25, "t", "perplexity", np.nan, 0.5, 5),
        ("up", "none", 0.75, "t", "perplexity", 11.0, np.nan, 1),
        ("up", "none", 0.5, "other", "acc", 0.3, 0.5, 5),
    ]
    table, references, metric = task_values(pd.DataFrame(rows, columns=list(TABLES["scores"])), "t")
    assert metric == "perplexity"
    assert references == {"original": 10.0, "center-only": 50.0}
    assert table["value"].tolist() == [12.0, 11.0]
    assert table["low"].tolist() == pytest.approx([12 - 0.98, 11.0])
    assert table["high"].tolist() == pytest.approx([12 + 0.98, 11.0])


@pytest.mark.parametrize(("metric", "expected"), [("word_perplexity", True), ("bits_per_byte", True), ("acc", False)])
def test_which_end_is_good(metric: str, expected: bool) -> None:
    assert lower_is_better(metric) is expected


def test_rounding_keeps_the_leading_digits() -> None:
    table = round_significant(pd.DataFrame({"name": ["a"], "x": [123456.789], "n": [7]}), digits=3)
    assert table.to_dict("records") == [{"name": "a", "x": 123000.0, "n": 7}]
