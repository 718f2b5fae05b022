from __future__ import annotations

import shlex
import threading
from pathlib import Path
from typing import Any

import pytest

from resmoe_lab import cli, workbench
from resmoe_lab._core.errors import Cancelled, ResmoeError
from resmoe_lab._core.files import folder_lock
from resmoe_lab._core.progress import Tick
from resmoe_lab.checkpoint import Checkpoint
from resmoe_lab.experiments.sweep import UNIT

from .conftest import PATIENCE

_FEW: dict[str, Any] = {"methods": ["up", "resmoe-up"], "keeps": [0.25, 0.5], "layers": "0,1", "limit": 4}
_FEW |= {"tasks": ["storyworld_perplexity"]}


@pytest.fixture
def panel(tiny: Checkpoint, tmp_path: Path) -> Any:
    return workbench.sweep(tiny, out=tmp_path / "sweep", **_FEW).wait(PATIENCE)


def _settle(panel: Any) -> None:
    assert panel._settled.wait(PATIENCE)
    panel._latest.wait(PATIENCE)


def test_forecast_stop_resume_and_read(panel: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    panel.forecast.click()
    _settle(panel)
    assert panel.message.value.startswith("6 scores; each takes about")
    out = Path(panel.form.out.value)
    assert not out.exists()

    plain, stopped = panel._tick, threading.Event()

    def stop_soon(tick: Tick) -> None:
        plain(tick)
        if tick.task == "scores" and tick.done == 3 and not stopped.is_set():
            stopped.set()
            panel.progress._button.click()

    monkeypatch.setattr(panel, "_tick", stop_soon)
    panel.run.click()
    _settle(panel)
    assert isinstance(panel._job.error, Cancelled)
    saved = {path: path.stat().st_mtime_ns for path in out.glob(f"{UNIT}*.json")}
    assert 3 <= len(saved) < 6
    assert f"{len(saved)} scores are kept in" in panel.message.value
    assert panel.run.description == "Resume"

    again = workbench.sweep(panel.selection, out=out, **_FEW).wait(PATIENCE)
    assert again.run.description == "Resume"
    assert "of a sweep that was stopped" in again.message.value
    again.run.click()
    _settle(again)
    assert again.view is not None
    assert {path: path.stat().st_mtime_ns for path in saved} == saved, "what was scored is not scored again"
    assert "with a keep for each layer" in again.message.value
    assert all(bytes(picture.png) for picture in again.pictures.values())
    assert again.results.layout.display == ""

    again.compare.click()
    _settle(again)
    assert "Scored: storyworld_perplexity, perplexity" in again.message.value

    later = workbench.sweep(panel.selection, out=out, **_FEW).wait(PATIENCE)
    assert "cached" in later.mark.value
    assert set(later.freeze()) == {"front storyworld_perplexity", "allocation"}


def test_the_command_and_the_code_say_what_is_chosen(panel: Any) -> None:
    program, *words = shlex.split(panel.command())
    assert program == "resmoe-lab"
    _, bound, *_ = cli.app.parse_args(words, exit_on_error=False, print_error=False)
    assert bound.arguments["layers"] == "0,1"
    assert bound.arguments["limit"] == 4
    assert "keeps=[0.25, 0.5]" in panel.code()


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("keeps", "0.1, much", "is not a list of numbers"),
        ("keeps", "", "no keeps are named"),
        ("keeps", "2", "keep is 2, expected a number"),
        ("layers", "nine", "is not understood"),
        ("layers", "99", "no layer 99 with experts"),
    ],
)
def test_a_bad_field_is_one_line(panel: Any, field: str, value: str, message: str) -> None:
    getattr(panel.form, field).value = value
    panel.run.click()
    assert message in panel.message.value
    assert "resmoe-error" in panel.message.value


def test_nothing_checked_is_said(panel: Any) -> None:
    panel.form.tasks.value = []
    panel.run.click()
    assert "check at least one method and one task" in panel.message.value


def test_two_notebooks_do_not_write_into_one_folder(panel: Any) -> None:
    out = Path(panel.form.out.value)
    out.mkdir()
    with folder_lock(out):
        panel.run.click()
        _settle(panel)
    assert "is being written by process" in panel.message.value
    assert not panel.run.disabled


def test_a_folder_of_something_else_is_left_alone(panel: Any) -> None:
    out = Path(panel.form.out.value)
    out.mkdir()
    (out / "thesis.tex").write_text("precious")
    panel.run.click()
    _settle(panel)
    assert "holds something else" in panel.message.value
    assert [path.name for path in out.iterdir()] == ["thesis.tex"]


def test_a_damaged_sweep_is_one_line(tiny: Checkpoint, tmp_path: Path) -> None:
    (tmp_path / "sweep.json").write_text("{}")
    panel = workbench.sweep(tiny, out=tmp_path, **_FEW)
    with pytest.raises(ResmoeError, match="holds a damaged sweep"):
        panel.wait(PATIENCE)
    _settle(panel)
    assert "holds a damaged sweep" in panel.message.value
