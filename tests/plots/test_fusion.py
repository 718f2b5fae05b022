from __future__ import annotations

from collections.abc import Callable

import pandas as pd
import pytest

from resmoe_lab.plots import mixing_chart
from resmoe_lab.plots.fusion import mixing_styles
from resmoe_lab.plots.live import mixing_figure

METHODS = ("left <b>", "right", "ensemble", "vanilla average", "OT average")


@pytest.fixture
def table() -> pd.DataFrame:
    rows = [
        (weight, method, label, 50 + 10 * place + weight + (0 if label == "all" else int(label)))
        for weight in (0.0, 0.25, 1.0)
        for place, method in enumerate(METHODS)
        for label in ("all", "0", "1", "2")
    ]
    return pd.DataFrame(rows, columns=["weight", "method", "label", "accuracy"])


def test_the_chart_has_a_slider_of_its_own(table: pd.DataFrame, texts: Callable[..., list[str]]) -> None:
    chart = mixing_chart(table, start=0.3)
    said = texts(chart)
    assert "Accuracy at weight 0.25" in said
    assert set(METHODS) <= set(said)
    assert "Accuracy at weight 1.00" in texts(chart, weight=0.9)


def test_the_picture_shows_the_weight_and_every_class(table: pd.DataFrame) -> None:
    figure = mixing_figure(table, 0.25)
    left, right = figure.axes
    assert left.lines[0].get_xdata() == [0.25, 0.25]
    assert len(right.patches) == len(METHODS) * 3
    heights = sorted(bar.get_height() for bar in right.patches)
    wanted = table[(table["weight"] == 0.25) & (table["label"] != "all")]["accuracy"]
    assert heights == pytest.approx(sorted(wanted))
    fused = next(line for line in left.lines if line.get_label() == "OT average")
    assert fused.get_ydata().tolist() == [90.0, 90.25, 91.0]


def test_every_method_has_a_look_of_its_own() -> None:
    styles = mixing_styles(METHODS)
    assert len({color for color, _ in styles.values()}) == len(METHODS)
