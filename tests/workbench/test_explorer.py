from __future__ import annotations

import re

import numpy as np
import pytest
import torch

import resmoe_lab as rl
from resmoe_lab._core.errors import CheckpointError
from resmoe_lab._core.progress import Tick
from resmoe_lab.checkpoint import Checkpoint
from resmoe_lab.workbench import Explorer
from resmoe_lab.workbench.layer import open_layer
from resmoe_lab.workbench.panels import ProgressPanel

_PATIENCE = 120


@pytest.fixture
def explorer(pico_checkpoint: Checkpoint) -> Explorer:
    return Explorer(pico_checkpoint).wait(_PATIENCE)


def _said(explorer: Explorer) -> str:
    return explorer._progress._text.value


def test_it_says_the_error_that_the_library_computes(explorer: Explorer, pico_checkpoint: Checkpoint) -> None:
    stack = rl.load_stack(pico_checkpoint, layer=0)
    common = rl.find_center(stack)
    for keep in (0.25, 0.6):
        explorer.keep.value = keep
        explorer.wait(_PATIENCE)
        restored = rl.compress_layer(stack, method="resmoe-up", keep=keep, common=common).restore()
        aligned = torch.stack([w[t] for w, t in zip(stack.weights, common.permutations, strict=True)])
        relative = float((aligned - restored).square().sum() / stack.weights.square().sum())
        assert f"at keep {keep:g}: relative error {relative:.3f}" in _said(explorer)


def test_every_control_changes_its_picture(explorer: Explorer) -> None:
    def pictures() -> tuple[bytes, bytes]:
        explorer.wait(_PATIENCE)
        return bytes(explorer._errors.widget.value), bytes(explorer._matrix.widget.value)

    curves, matrix = pictures()
    assert curves.startswith(b"\x89PNG")
    explorer.keep.value = 0.5
    moved_curves, moved_matrix = pictures()
    assert moved_curves != curves
    assert moved_matrix != matrix
    explorer.expert.value = 2
    assert pictures()[0] == moved_curves
    assert pictures()[1] != moved_matrix
    explorer.picture.value = "permutations"
    permutations = pictures()[1]
    explorer.method.value = "svd"
    assert pictures()[1] == permutations
    explorer.layer.value = 1
    assert pictures()[0] != moved_curves
    assert "Layer 1, svd" in _said(explorer)


def test_a_keep_that_leaves_no_rank_is_said_not_raised(explorer: Explorer) -> None:
    explorer.method.value = "svd"
    explorer.keep.value = 0.05
    explorer.wait(_PATIENCE)
    assert re.search(r"keep 0\.05 leaves", _said(explorer))


def test_frozen_charts_hold_the_open_layer(explorer: Explorer) -> None:
    charts = explorer.freeze()
    assert set(charts) == {"errors", "permutations", "similarity"}
    assert "layer 0" in charts["errors"].to_json()


def test_a_layer_that_was_opened_is_kept(explorer: Explorer) -> None:
    first = explorer.bench
    explorer.layer.value = 1
    explorer.wait(_PATIENCE)
    assert explorer.bench is not first
    explorer.layer.value = 0
    explorer.wait(_PATIENCE)
    assert explorer.bench is first


def test_it_shows_itself_as_a_widget(explorer: Explorer) -> None:
    bundle = explorer._repr_mimebundle_()
    assert "application/vnd.jupyter.widget-view+json" in (bundle[0] if isinstance(bundle, tuple) else bundle)


def test_a_missing_checkpoint_is_refused_at_once() -> None:
    with pytest.raises(CheckpointError):
        Explorer("/no/such/checkpoint")


def test_a_bench_restores_one_expert_as_the_whole_layer_does(pico_checkpoint: Checkpoint) -> None:
    bench = open_layer(pico_checkpoint, 1, methods=["up", "resmoe-svd"], center="wasserstein")
    for method in ("up", "resmoe-svd"):
        before, after = bench.matrices(method, 0.5, 2)
        whole = rl.compress_layer(bench.stack, method=method, keep=0.5, common=bench.common).restore()[2]
        start = bench.common.center.numpy() if method.startswith("resmoe") else 0.0
        assert np.allclose(after + start, whole.numpy(), atol=1e-6)
        lost = ((before - after) ** 2).sum()
        assert 0 < lost < (before**2).sum()


def test_progress_shows_names_as_text() -> None:
    panel = ProgressPanel(stop=lambda: None)
    panel(Tick("<b>task</b>", 2, 5))
    assert "<b>" not in panel._text.value
    assert (panel._bar.value, panel._bar.max) == (2, 5)
    panel.idle("<i>done</i>")
    assert "<i>" not in panel._text.value
    assert panel._row.layout.display == "none"


def test_the_stop_button_stops() -> None:
    pressed = []
    panel = ProgressPanel(stop=lambda: pressed.append(True))
    panel._button.click()
    assert pressed == [True]
