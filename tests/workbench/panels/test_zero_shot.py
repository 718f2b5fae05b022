from __future__ import annotations

import shlex
from typing import Any

import pytest

from resmoe_lab import cli, workbench
from resmoe_lab.checkpoint import Checkpoint

from .conftest import PATIENCE


@pytest.fixture
def panel(tiny: Checkpoint) -> Any:
    return workbench.zero_shot(tiny, tasks=["storyworld_action"], limit=8, layers="0", keep=0.5)


def test_only_the_button_runs_the_model(panel: Any) -> None:
    assert panel.said.value == "Choose, then press Score."
    panel.run.click()
    panel.wait(PATIENCE)
    scores = panel.view.scores
    assert scores["label"].tolist() == ["original", "resmoe-up at 0.5"]
    assert set(scores["n"]) == {8}
    for word in ("<th>stderr</th>", "storyworld_action", "resmoe-up at 0.5"):
        assert word in panel.said.value
    assert bytes(panel.pictures["scores"].png).startswith(b"\x89PNG")
    panel.selection.keep = 0.25
    assert "press Score" in panel.mark.value
    assert panel.view.scores is scores
    panel.selection.keep = 0.5
    panel.run.click()
    panel.wait(PATIENCE)
    assert "cached" in panel.mark.value
    for line in panel.save.command.split(" && "):
        cli.app.parse_args(shlex.split(line)[1:], exit_on_error=False, print_error=False)


def test_a_model_that_cannot_run_is_one_line(pico_checkpoint: Checkpoint) -> None:
    panel = workbench.zero_shot(pico_checkpoint, tasks=["storyworld_action"], limit=2)
    panel.run.click()
    assert panel._settled.wait(PATIENCE)
    assert "has no tokenizer that can be opened" in panel.said.value


def test_no_task_is_said(panel: Any) -> None:
    panel.tasks.value = []
    panel.run.click()
    assert panel._settled.wait(PATIENCE)
    assert "check at least one task" in panel.said.value
