from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from resmoe_lab import cli, workbench
from resmoe_lab.checkpoint import Checkpoint
from resmoe_lab.experiments.comparison import score_methods
from resmoe_lab.plots.offline import chart_html
from resmoe_lab.scoring.score_cache import ScoreCache
from resmoe_lab.workbench.cache import Cache

from ...conftest import data_or_skip
from .conftest import PATIENCE


@pytest.fixture
def panel(tiny: Checkpoint) -> Any:
    return workbench.zero_shot(tiny, tasks=["storyworld_action"], limit=8, layers="0", keep=0.5)


def test_only_the_button_runs_the_model(panel: Any) -> None:
    assert panel.message.value.startswith("Choose, then press Score.")
    panel.run.click()
    panel.wait(PATIENCE)
    scores = panel.view.scores
    assert scores["label"].tolist() == ["original", "resmoe-up at 0.5"]
    assert set(scores["n"]) == {8}
    for word in ("<th>stderr</th>", "storyworld_action", "resmoe-up at 0.5"):
        assert word in panel.message.value
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


def test_the_panel_says_what_the_library_says(panel: Any, tiny: Checkpoint, tmp_path: Path) -> None:
    panel.run.click()
    panel.wait(PATIENCE)
    how = {"keep": 0.5, "layers": [0], "tasks": ["storyworld_action"], "limit": 8}
    expected = score_methods(tiny, methods=["resmoe-up"], cache=ScoreCache(tmp_path), **how)
    scores = panel.view.scores.drop(columns=["label", "cached"])
    pd.testing.assert_frame_equal(scores, expected.drop(columns="cached"), rtol=1e-5)
    assert "resmoe-up at 0.5" in chart_html(panel.freeze()["scores"])


def test_the_harness_scores_too_and_remembers(tiny: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    data_or_skip("winogrande")
    how = {"tasks": ["winogrande"], "limit": 2, "layers": "0", "keep": 0.5, "protocol": "lm-eval"}
    for mark in ("fresh", "cached"):
        monkeypatch.setattr("resmoe_lab.workbench.panels._live.VIEWS", Cache(1))  # as in a new kernel
        panel = workbench.zero_shot(tiny, **how)
        panel.run.click()
        panel.wait(PATIENCE)
        assert set(panel.view.scores["metric"]) == {"acc"}
        assert f"<td>{mark}</td>" in panel.message.value
    assert "--protocol lm-eval" in panel.save.command


def test_a_model_that_cannot_run_is_one_line(pico_checkpoint: Checkpoint) -> None:
    panel = workbench.zero_shot(pico_checkpoint, tasks=["storyworld_action"], limit=2)
    panel.run.click()
    assert panel._settled.wait(PATIENCE)
    assert "has no tokenizer that can be opened" in panel.message.value


def test_no_task_is_said(panel: Any) -> None:
    panel.tasks.value = []
    panel.run.click()
    assert panel._settled.wait(PATIENCE)
    assert "choose at least one task" in panel.message.value
