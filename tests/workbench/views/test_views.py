"""Every view against the library's own functions."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import resmoe_lab as rl
from resmoe_lab.analysis.spectra import expert_distances, expert_spectra, sharing_tree
from resmoe_lab.checkpoint import Checkpoint
from resmoe_lab.experiments.sweep import Sweep
from resmoe_lab.runtime import load_pair
from resmoe_lab.workbench.views import ErrorsView, view_errors, view_experts, view_scores, view_transport


def test_experts_say_what_the_diagnosis_says(tiny: Checkpoint) -> None:
    view = view_experts(tiny, 1)
    stack = rl.load_stack(tiny, layer=1)
    assert view.diagnosis.residual_gain == pytest.approx(rl.diagnose(stack).residual_gain)
    norms = view.norms[view.norms["part"] == "whole"]["norm"].to_numpy()
    assert norms == pytest.approx(stack.weights.double().flatten(1).norm(dim=1).numpy())
    parts = view.norms[~view.norms["part"].isin(["whole", "residual"])].assign(square=lambda t: t["norm"] ** 2)
    assert np.sqrt(parts.groupby("expert")["square"].sum()).to_numpy() == pytest.approx(norms)
    residual = view.norms[view.norms["part"] == "residual"]["norm"]
    assert (residual**2).mean() == pytest.approx(rl.find_center(stack).objective, rel=1e-5)
    assert view.load is not None
    assert view.load["share"].sum() == pytest.approx(1)
    assert set(view.charts()) == {"similarity", "norms", "load", "spectrum", "sharing"}
    distances = expert_distances(stack, rl.find_center(stack))
    assert view.distances == pytest.approx(distances)
    assert view.tree.groups == sharing_tree(distances).groups
    pd.testing.assert_frame_equal(view.spectra.exponents, expert_spectra(stack).exponents)


def test_a_model_that_cannot_run_says_so_instead_of_its_load(pico_checkpoint: Checkpoint) -> None:
    view = view_experts(pico_checkpoint, 0)
    assert view.load is None
    assert "has no tokenizer" in view.load_missing
    assert "load" not in view.tables()


def test_transport_is_the_search_itself(tiny: Checkpoint) -> None:
    view = view_transport(tiny, 0, solver="alternating")
    center = rl.find_center(rl.load_stack(tiny, layer=0), solver="alternating")
    assert np.array_equal(view.permutations, center.permutations.numpy())
    assert view.history["objective"].tolist() == pytest.approx([step.objective for step in center.history])
    assert view.objective == pytest.approx(center.objective)
    assert view.displacements()["share"].sum() == pytest.approx(1)


def test_a_center_found_in_one_step_has_no_search(pico_checkpoint: Checkpoint) -> None:
    view = view_transport(pico_checkpoint, 0, center="average")
    assert (view.lower_bound, view.gap, len(view.history)) == (None, None, 0)
    assert set(view.charts()) == {"permutations", "displacements"}


def test_errors_are_those_of_every_layer_and_center(pico_checkpoint: Checkpoint) -> None:
    view = view_errors(pico_checkpoint, [0, 1], methods=["up", "resmoe-up"], centers=["wasserstein", "average"])
    assert set(view.errors["layer"]) == {0, 1}
    stack = rl.load_stack(pico_checkpoint, layer=1)
    center = rl.find_center(stack, center="average")
    [expected] = rl.error_curves(stack, methods=["resmoe-up"], keeps=[0.5], center=center)["relative_error"]
    row = view.errors.query("layer == 1 and method == 'resmoe-up' and center == 'average' and keep == 0.5")
    assert row["relative_error"].item() == pytest.approx(expected)
    assert (view.equal_bytes["share"] <= 1).all()


def test_the_report_of_a_sweep_has_the_charts_of_the_panel(sweep: Sweep) -> None:
    assert set(ErrorsView.of_sweep(sweep).charts()) == {"errors", "by layer", "bytes"}


def test_scores_are_those_of_the_compressed_model(tiny: Checkpoint) -> None:
    options = {"tasks": ["storyworld_action"], "limit": 12}
    view = view_scores(tiny, [0, 1], method="up", keeps=0.05, **options)
    assert view.scores["label"].tolist() == ["original", "up at 0.05"]
    model, tokenizer = load_pair(tiny)
    [original] = rl.evaluate_model(model, tokenizer, **options)
    assert view.scores["value"].iloc[0] == original.value
    by_layer = view_scores(tiny, [0, 1], method="up", keeps={0: 1.0, 1: 1.0}, original=False, **options)
    assert by_layer.scores["value"].tolist() == [original.value]
    assert by_layer.scores["label"].tolist() == ["up, keep by layer"]
