from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import resmoe_lab as rl
from resmoe_lab._core.errors import OutputError
from resmoe_lab._core.files import folder_lock
from resmoe_lab.checkpoint import Checkpoint
from resmoe_lab.experiments.run_sweep import run_sweep
from resmoe_lab.experiments.sweep import UNIT
from resmoe_lab.experiments.sweep_forecast import forecast_sweep

_CHOICES: dict[str, Any] = {
    **{"layers": [0], "methods": ["up", "resmoe-up"], "keeps": [0.25, 0.5], "tasks": ["storyworld_action"], "limit": 4}
}


def test_it_counts_what_is_to_be_scored_and_what_is_there(tiny: Checkpoint, tmp_path: Path) -> None:
    running = rl.load_model(tiny)
    out = tmp_path / "sweep"
    first = forecast_sweep(tiny, out, running=running, **_CHOICES)
    assert (first.scores, first.done) == (6, 0)
    assert first.seconds > first.seconds_a_score > 0
    assert not out.exists()
    out.mkdir()
    (out / f"{UNIT}up-0.25.json").write_text(json.dumps([]))
    assert forecast_sweep(tiny, out, running=running, **_CHOICES).done == 1


def test_two_do_not_sweep_into_one_folder(tiny: Checkpoint, tmp_path: Path) -> None:
    out = tmp_path / "sweep"
    out.mkdir()
    with folder_lock(out), pytest.raises(OutputError, match="is being written by process"):
        run_sweep(tiny, out, **_CHOICES)
