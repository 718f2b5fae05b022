from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import resmoe_lab as rl
from resmoe_lab._core.errors import OutputError
from resmoe_lab._core.files import folder_lock
from resmoe_lab.checkpoint import Checkpoint
from resmoe_lab.experiments import sweep_forecast
from resmoe_lab.experiments.run_sweep import run_sweep
from resmoe_lab.experiments.sweep import UNIT
from resmoe_lab.experiments.sweep_config import SweepConfig
from resmoe_lab.experiments.sweep_forecast import forecast_sweep
from resmoe_lab.runtime import load_pair
from resmoe_lab.scoring.outcome import Score

_CHOICES: dict[str, Any] = {
    **{"layers": [0], "methods": ["up", "resmoe-up"], "keeps": [0.25, 0.5], "tasks": ["storyworld_action"], "limit": 4}
}


def test_it_counts_what_is_to_be_scored_and_what_is_there(tiny: Checkpoint, tmp_path: Path) -> None:
    running = load_pair(tiny)
    out = tmp_path / "sweep"
    first = forecast_sweep(tiny, out, SweepConfig(**_CHOICES), running=running)
    assert (first.scores, first.done) == (6, 0)
    assert first.seconds > first.seconds_a_score > 0
    assert not out.exists()
    out.mkdir()
    (out / f"{UNIT}up-0.25.json").write_text(json.dumps([]))
    assert forecast_sweep(tiny, out, SweepConfig(**_CHOICES), running=running).done == 1


def test_two_do_not_sweep_into_one_folder(tiny: Checkpoint, tmp_path: Path) -> None:
    out = tmp_path / "sweep"
    out.mkdir()
    with folder_lock(out), pytest.raises(OutputError, match="is being written by process"):
        run_sweep(tiny, out, **_CHOICES)


def test_running_text_is_forecast_with_its_windows(
    tiny: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where every window takes a second, a text takes as many seconds as it has windows."""
    text = tmp_path / "text.txt"
    text.write_text("Anna went home. " * 2000)
    running = load_pair(tiny)
    [expected, *_] = rl.evaluate_model(*running, tasks=[str(text)])
    assert expected.n > 20
    clock = iter((0, 4, 0, 20) * 2)

    def evaluate(model: Any, tokenizer: Any, *, limit: int, **options: Any) -> list[Score]:
        return [Score("text", "perplexity", 1.0, 0.0, limit)]

    monkeypatch.setattr(sweep_forecast, "evaluate_model", evaluate)
    monkeypatch.setattr(sweep_forecast.time, "perf_counter", lambda: next(clock))
    monkeypatch.setattr(sweep_forecast, "forecast_run", lambda *_, **options: SimpleNamespace(seconds=0.0))
    options, out = _CHOICES | {"tasks": [str(text)], "limit": None}, tmp_path / "out"
    assert forecast_sweep(tiny, out, SweepConfig(**options), running=running).seconds_a_score == expected.n
    clock = iter((0, 4, 0, 20) * 2)
    assert forecast_sweep(tiny, out, SweepConfig(**options | {"limit": 7}), running=running).seconds_a_score == 7
