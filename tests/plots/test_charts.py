"""Every chart, drawn: the numbers a reader sees are the sweep's."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from resmoe_lab import plots
from resmoe_lab.experiments.sweep import Sweep

from .synthetic import KEEPS, METHODS, SCORED_KEEPS, TASKS, make_sweep

Texts = Callable[..., list[str]]


@pytest.mark.parametrize("keep", [0.25, 0.75])
def test_error_curves_show_the_value_at_the_slider(sweep: Sweep, texts: Texts, keep: float) -> None:
    labels = texts(plots.error_curves(sweep.errors), keep=keep)
    for method in METHODS:
        rows = sweep.errors.query("method == @method and keep == @keep")
        assert f"{np.mean(rows['relative_error']):.3f}" in labels
        assert method in labels


def test_error_curves_of_one_layer(sweep: Sweep, texts: Texts) -> None:
    value = sweep.errors.query("layer == 2 and method == 'svd' and keep == 0.5")["relative_error"].item()
    assert f"{value:.3f}" in texts(plots.error_curves(sweep.errors, layer=2), keep=0.5)


@pytest.mark.parametrize("task", TASKS)
def test_score_curves_show_scores_and_ends(sweep: Sweep, texts: Texts, task: str) -> None:
    labels = texts(plots.score_curves(sweep.scores, task, chance=0.5 if TASKS[task][0] == "acc" else None), keep=0.5)
    rows = sweep.scores.query("task == @task and keep == 0.5")
    for value in rows["value"]:
        shown = f"{value:.1%}" if TASKS[task][0] == "acc" else None
        assert shown is None or shown in labels
    assert {"original", "center-only"} <= set(labels)
    assert ("chance" in labels) == (TASKS[task][0] == "acc")
    assert task in labels


def test_an_unscored_keep_shows_the_nearest_scored_one(sweep: Sweep, texts: Texts) -> None:
    chart = plots.score_curves(sweep.scores, "storyworld_activity")
    assert 0.55 not in SCORED_KEEPS
    assert texts(chart, keep=0.55) == texts(chart, keep=0.5)
    assert "at 50% kept" in texts(chart, keep=0.55)


def test_both_counts_of_bytes_are_shown(sweep: Sweep, texts: Texts) -> None:
    labels = texts(plots.size_bars(sweep.sizes), keep=0.25)
    for row in sweep.sizes.query("keep == 0.25").itertuples():
        assert f"{row.paper_bytes / row.original_bytes:.1%}  paper's count" in labels
        assert f"{row.true_bytes / row.original_bytes:.1%}  really stored" in labels


def test_every_way_to_run_shows_its_four_numbers(sweep: Sweep, texts: Texts) -> None:
    labels = texts(plots.speed_bars(sweep.speed))
    assert {"original", "restored", "factored", "60", "41", "71", "46.1", "72.3", "31.4", "41.3", "47.9"} <= set(labels)


def test_the_size_table_takes_the_smallest_format() -> None:
    columns = list(make_sweep().sizes.columns)
    rows = [
        ("up", "none", 0.5, "csr16", 50, 90, 100, 190, 200),
        ("up", "none", 0.5, "bitmask", 50, 56, 100, 156, 200),
        ("up", "none", 0.25, "bitmask", 25, 31, 100, 131, 200),
    ]
    table = plots.size_table(pd.DataFrame(rows, columns=columns), keep=0.5)
    assert table["format"].tolist() == ["bitmask"]
    assert table[["paper_share", "true_share", "model_share"]].to_numpy().tolist() == [[0.5, 0.56, 0.78]]


def test_error_against_bytes_has_one_mark_a_method_and_keep(sweep: Sweep) -> None:
    spec = plots.error_by_bytes(sweep.errors, sweep.sizes).to_dict()
    for panel in spec["hconcat"]:
        fields = {layer["encoding"]["x"].get("field") for layer in panel["layer"]}
        assert fields & {"paper_share", "true_share"}
    (values,) = spec["datasets"].values() if len(spec.get("datasets", {})) == 1 else [_values(spec)]
    assert len(values) == len(METHODS) * len(KEEPS)
    row = next(row for row in values if row["series"] == "resmoe-up" and row["keep"] == 0.25)
    size = sweep.sizes.query("method == 'resmoe-up' and keep == 0.25").iloc[0]
    assert row["true_share"] == pytest.approx(size["true_bytes"] / size["original_bytes"], rel=1e-4)


def _values(spec: dict) -> list[dict]:
    lists = [layer["data"]["values"] for panel in spec["hconcat"] for layer in panel["layer"] if "data" in layer]
    lists += [panel["data"]["values"] for panel in spec["hconcat"] if "data" in panel]
    lists += [spec["data"]["values"]] if "data" in spec else []
    return max(lists, key=len)


def test_score_against_bytes_draws(sweep: Sweep, texts: Texts) -> None:
    labels = texts(plots.score_by_bytes(sweep.scores, sweep.sizes, "wikitext2"))
    assert "wikitext2 against bytes" in labels
    assert "word perplexity" in labels


def test_similarity_shows_the_layers_numbers(sweep: Sweep, texts: Texts) -> None:
    labels = texts(plots.similarity_heatmap(sweep.similarity), layer=2)
    values = sweep.similarity[2]
    shown = [f"{values[i, j]:.2f}" for i in range(8) for j in range(8) if i != j]
    assert sorted(text for text in labels if text in shown)[: len(shown)]
    assert sum(text in set(shown) for text in labels) >= len(shown)
    assert "Cosine similarity of the aligned experts, layer 2" in labels


def test_routing_shows_every_share(sweep: Sweep, texts: Texts) -> None:
    labels = texts(plots.routing_load(sweep.routing))
    assert {f"{share:.1%}" for share in sweep.routing["share"]} <= set(labels)
    assert "uniform routing: 12.5%" in labels


def test_center_history_is_relative_to_the_bound(texts: Texts) -> None:
    chart = plots.center_history({3: [4.0, 3.0]}, lower_bounds={3: 2.0})
    (values,) = [layer["data"]["values"] for layer in chart.to_dict()["layer"] if len(layer["data"]["values"]) == 2][:1]
    assert [row["value"] for row in values] == [1.0, 0.5]
    assert {"lower bound", "Search for the center", "objective after each step"} <= set(texts(chart))
    assert "layer 3" in texts(chart)


@pytest.mark.parametrize("layers", [1, 27])
def test_one_layer_and_many_experts_draw(texts: Texts, layers: int) -> None:
    odd = make_sweep(layers=layers, experts=64 if layers > 1 else 2, width=32)
    for chart in (
        plots.errors_by_layer(odd.errors),
        plots.similarity_heatmap(odd.similarity),
        plots.permutation_map(odd.permutations),
        plots.routing_load(odd.routing),
    ):
        assert texts(chart)
        assert len(chart.to_json()) < 600_000


def test_equal_experts_and_a_single_method_draw(texts: Texts, sweep: Sweep) -> None:
    assert texts(plots.similarity_heatmap({0: np.ones((3, 3))}))
    only = sweep.errors.query("method == 'up' and keep == 0.5")
    assert "up" in texts(plots.error_curves(only))
    assert texts(plots.size_bars(sweep.sizes.query("method == 'up' and keep == 0.5")))


def test_a_method_nobody_knows_is_drawn_as_text(texts: Texts, sweep: Sweep) -> None:
    strange = sweep.errors.query("method == 'up'").assign(method="</script><i>new</i>")
    assert "</script><i>new</i>" in texts(plots.error_curves(strange))


def test_plots_leave_torch_alone() -> None:
    code = "import sys, resmoe_lab.plots; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
