from __future__ import annotations

import io

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from resmoe_lab.experiments.sweep import Sweep
from resmoe_lab.plots.live import ErrorFigure
from resmoe_lab.plots.raster import figure_bytes
from resmoe_lab.plots.series import add_series

from ..synthetic import METHODS


def _table(sweep: Sweep) -> pd.DataFrame:
    table = add_series(sweep.errors).rename(columns={"keep": "at", "relative_error": "value"})
    return table[["layer", "series", "at", "value"]]


def _said(figure: object) -> list[str]:
    return [text.get_text() for axes in figure.axes for text in axes.texts]


@pytest.mark.parametrize("layer", [None, 1])
def test_it_says_every_value(sweep: Sweep, layer: int | None) -> None:
    screen = ErrorFigure(_table(sweep), layer=layer)
    rows = sweep.errors if layer is None else sweep.errors[sweep.errors["layer"] == layer]
    mean = rows[rows["keep"] == 0.5].groupby("method")["relative_error"].mean()
    said = _said(screen.figure(0.5))
    for method in METHODS:
        assert f"{mean[method]:.3f}" in said
        assert screen.values(0.5)[method] == pytest.approx(mean[method])
    assert "at kept fraction 0.5" in said


def test_the_quick_picture_is_the_whole_figure(sweep: Sweep) -> None:
    """What is drawn over a copy of the rest differs from a figure drawn whole in nothing but a few edges."""
    screen = ErrorFigure(_table(sweep))
    for at in (0.75, 0.1, 0.5):
        quick = np.asarray(Image.open(io.BytesIO(screen.png(at))).convert("L"), dtype=float)
    pixels = np.asarray(Image.open(io.BytesIO(figure_bytes(screen.figure(0.5)))).convert("L"), dtype=float)
    assert quick.shape == pixels.shape
    assert (np.abs(quick - pixels) > 40).mean() < 0.01
    assert screen.png(0.5) == screen.png(0.5)
    assert screen.png(0.5) != screen.png(0.6)


def test_what_does_not_fit_has_no_number(sweep: Sweep) -> None:
    table = _table(sweep)
    table = table[(table["series"] != "svd") | (table["at"] > 0.3)]
    said = _said(ErrorFigure(table).figure(0.25))
    assert sum(text.startswith("0.") for text in said) == len(METHODS) - 1
    assert "nan" not in said
