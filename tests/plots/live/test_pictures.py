"""The other live pictures: they say what their tables say, at the smallest and at large sizes."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from resmoe_lab.analysis.allocation import allocate_keeps
from resmoe_lab.analysis.pareto import pareto_front
from resmoe_lab.experiments.sweep import Sweep
from resmoe_lab.plots.live import (
    alignment_figure,
    allocation_figure,
    front_figure,
    norms_figure,
    pictures_figure,
    scores_figure,
    search_figure,
    similarity_figure,
)
from resmoe_lab.plots.live.transport import PIXELS
from resmoe_lab.plots.raster import figure_bytes


def _norms(experts: int) -> pd.DataFrame:
    rows = [(0, k, part, 1.0 + k) for k in range(experts) for part in ("w1", "w2", "whole", "residual")]
    return pd.DataFrame(rows, columns=["layer", "expert", "part", "norm"])


@pytest.mark.parametrize("experts", [1, 2, 64])
def test_experts_of_any_number(experts: int) -> None:
    similarity = np.full((experts, experts), 0.5)
    figure = similarity_figure(similarity, similarity, layer=0, center="wasserstein")
    assert figure_bytes(figure).startswith(b"\x89PNG")
    load = pd.DataFrame({"layer": 0, "expert": range(experts), "share": 1 / experts})
    drawn = norms_figure(_norms(experts), load)
    assert len(drawn.axes[1].patches) == experts
    assert len(norms_figure(_norms(experts), None).axes) == 1


@pytest.mark.parametrize("width", [1, 7, 256, 14336])
def test_a_permutation_of_any_width_is_a_small_picture(width: int) -> None:
    permutations = np.stack([np.arange(width), np.arange(width)[::-1]])
    figure = alignment_figure(permutations, layer=0, expert=1)
    [image] = figure.axes[0].images
    assert max(image.get_array().shape[:2]) <= PIXELS == 256
    assert sum(bar.get_height() for bar in figure.axes[1].patches) == pytest.approx(1)


def test_a_reversed_layer_is_the_other_diagonal() -> None:
    figure = alignment_figure(np.arange(512)[::-1][None], layer=0, expert=0)
    picture = np.asarray(figure.axes[0].images[0].get_array()).min(axis=2)
    assert (np.fliplr(picture).diagonal() < 0.6).all()


def test_the_search_shows_every_step_and_the_bound() -> None:
    figure = search_figure([3.0, 2.0, 1.5], lower_bound=1.4)
    assert figure.axes[0].lines[0].get_ydata().tolist() == [3.0, 2.0, 1.5]
    assert figure.axes[0].get_ylim()[0] < 1.4
    assert "running" in search_figure([1.0], running=True).axes[0].get_title(loc="left")


def test_the_front_is_ringed(sweep: Sweep) -> None:
    points = pd.DataFrame(
        {"series": ["up", "up", "svd"], "keep": [0.1, 0.5, 0.1], "true_share": [0.2, 0.5, 0.3], "value": [9, 3, 20]}
    )
    front = pareto_front(points, cost="true_share", loss="value")
    figure = front_figure(points, front, task="wikitext", metric="perplexity", original=2.5)
    assert figure.axes[0].get_title(loc="left") == "Score against stored bits: wikitext, perplexity"
    assert figure.axes[0].get_yscale() == "log"
    rings = [line for line in figure.axes[0].lines if line.get_label() == "front"]
    assert rings[0].get_xdata().tolist() == [3.2, 8.0]
    legend = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert legend == ["up", "svd", "front"]


def test_the_allocation_shows_both_for_every_layer(sweep: Sweep) -> None:
    table = allocate_keeps(sweep.errors, sweep.sizes, method="resmoe-up", share=0.45)
    figure = allocation_figure(table, method="resmoe-up", share=0.45)
    heights = [bar.get_height() for bar in figure.axes[0].patches]
    assert heights == [*table["keep"], *table["uniform_keep"]]


def test_scores_without_an_error_bar_are_drawn() -> None:
    rows = [("original", "original", "a", "acc", 0.9, 0.1), ("x", "up", "a", "acc", 0.5, float("nan"))]
    table = pd.DataFrame(rows, columns=["label", "method", "task", "metric", "value", "stderr"])
    figure = scores_figure(table)
    assert {text.get_text() for text in figure.axes[0].texts} == {"0.9", "0.5"}
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["original", "x"]


def test_rows_of_pictures_are_named_and_may_differ_in_length() -> None:
    rows = {"grey": np.zeros((3, 4, 4)), "coloured": np.full((2, 4, 4, 3), 0.5)}
    figure = pictures_figure(rows, title="rows of pictures " * 8)
    assert figure.get_suptitle().count("\n") >= 1
    drawn = [len(axis.images) for axis in figure.axes]
    assert drawn == [1, 1, 1, 1, 1, 0]
    assert [axis.texts[0].get_text() for axis in figure.axes if axis.texts] == ["grey", "coloured"]
    assert figure_bytes(figure).startswith(b"\x89PNG")
