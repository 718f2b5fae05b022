from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
import torch

import resmoe_lab as rl
from resmoe_lab._core.errors import CheckpointError
from resmoe_lab.checkpoint import Checkpoint
from resmoe_lab.workbench import Explorer

from .conftest import PATIENCE


@pytest.fixture
def explorer(pico_checkpoint: Checkpoint) -> Explorer:
    return Explorer(pico_checkpoint).wait(PATIENCE)


def test_it_says_the_error_that_the_library_computes(explorer: Explorer, pico_checkpoint: Checkpoint) -> None:
    stack = rl.load_stack(pico_checkpoint, layer=0)
    center = rl.find_center(stack)
    for keep in (0.25, 0.6):
        explorer.selection.keep = keep
        explorer.wait(PATIENCE)
        restored = rl.compress_layer(stack, method="resmoe-up", keep=keep, center=center).restore()
        aligned = torch.stack([w[t] for w, t in zip(stack.weights, center.permutations, strict=True)])
        relative = float((aligned - restored).square().sum() / stack.weights.square().sum())
        assert f"at keep {keep:g}: relative error {relative:.3f}" in explorer.message.value


def test_every_control_changes_its_picture(explorer: Explorer, pictures: Callable[[Any], dict[str, bytes]]) -> None:
    first = pictures(explorer)
    explorer.selection.expert = 2
    second = pictures(explorer)
    assert second["errors"] == first["errors"]
    assert second["weights"] != first["weights"]
    explorer.picture.value = "permutations"
    third = pictures(explorer)
    explorer.selection.method = "svd"
    assert pictures(explorer)["weights"] == third["weights"]
    explorer.selection.layer = 1
    assert pictures(explorer)["errors"] != first["errors"]
    assert "Layer 1, svd" in explorer.message.value


def test_a_method_that_another_panel_chooses_joins_the_curves(explorer: Explorer) -> None:
    explorer.selection.method = "sp"
    explorer.wait(PATIENCE)
    assert explorer._settled.wait(PATIENCE)
    explorer.wait(PATIENCE)
    assert "sp at keep 0.25" in explorer.message.value
    assert "sp" in set(explorer.view.errors["method"])


def test_a_keep_that_leaves_no_rank_is_said_not_raised(explorer: Explorer) -> None:
    explorer.selection.method = "svd"
    explorer.selection.keep = 0.05
    explorer.wait(PATIENCE)
    assert re.search(r"keep 0\.05 leaves", explorer.message.value)
    assert bytes(explorer.pictures["weights"].png) == b""


def test_a_missing_checkpoint_is_refused_at_once_in_one_line() -> None:
    with pytest.raises(CheckpointError) as caught:
        Explorer("/no/such/checkpoint")
    [line] = caught.value._render_traceback_()
    assert line.startswith("CheckpointError: checkpoint '/no/such/checkpoint' not found")
