"""Earlier results are found by the weights that they are of."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from resmoe_lab import workbench, zoo
from resmoe_lab.checkpoint import Checkpoint, open_checkpoint
from resmoe_lab.workbench.kept import ZOO_SWEEP, newest_sweep
from resmoe_lab.workbench.views import ScoresView

from .panels.conftest import PATIENCE

PACKAGED = zoo.folder("mixtral-tiny") / ZOO_SWEEP


def _copy(folder: Path, date: object, **settings: str) -> None:
    shutil.copytree(PACKAGED, folder)
    facts = json.loads((folder / "sweep.json").read_text())
    facts["date"] = date
    facts["settings"] |= settings
    (folder / "sweep.json").write_text(json.dumps(facts))


def test_the_packaged_sweep_is_of_the_embedded_weights(tiny: Checkpoint, tmp_path: Path) -> None:
    kept = newest_sweep(tiny, tmp_path)
    assert kept is not None
    assert kept.place == "the sweep that comes with the package"
    assert newest_sweep(open_checkpoint("switch-tiny"), tmp_path) is None


def test_the_newest_of_the_folder_counts_and_others_do_not(tiny: Checkpoint, tmp_path: Path) -> None:
    _copy(tmp_path / "older", "2025-01-01T00:00:00+00:00")
    _copy(tmp_path / "newer", "2025-06-01T00:00:00+00:00")
    _copy(tmp_path / "another model's", "2025-09-01T00:00:00+00:00", checkpoint_hash="1234")
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "sweep.json").write_text("{")
    kept = newest_sweep(tiny, tmp_path)
    assert kept is not None
    assert kept.place == "newer"


def test_scores_of_a_sweep_are_those_of_the_nearest_setting(tiny: Checkpoint, tmp_path: Path) -> None:
    kept = newest_sweep(tiny, tmp_path)
    assert kept is not None
    view = ScoresView.of_sweep(kept.sweep, "resmoe-up", 0.3)
    assert view is not None
    assert view.scores["label"].unique().tolist() == ["original", "resmoe-up at 0.25"]
    own = kept.sweep.scores.query("method == 'resmoe-up' and keep == 0.25")
    assert view.scores["value"].tolist()[-len(own) :] == own["value"].tolist()
    assert ScoresView.of_sweep(kept.sweep, "mxfp4", 0.3) is None


def test_panels_open_with_them_and_say_so(tiny: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    sweep = workbench.sweep(tiny).wait(PATIENCE)
    assert "From the sweep that comes with the package" in sweep.message.value
    assert bytes(sweep.pictures["front"].png).startswith(b"\x89PNG")
    scores = workbench.zero_shot(tiny, tasks=["storyworld_action"])
    assert "resmoe-up at 0.25, from the sweep that comes with the package" in scores.message.value
    assert bytes(scores.pictures["scores"].png).startswith(b"\x89PNG")


@pytest.mark.parametrize("date", ["yesterday", "", None, 7])
def test_a_sweep_without_a_date_is_passed_over(date: object, tiny: Checkpoint, tmp_path: Path) -> None:
    _copy(tmp_path / "dated", "2025-01-01T00:00:00")
    _copy(tmp_path / "aware", "2024-01-01T00:00:00+00:00")
    _copy(tmp_path / "undated", date)
    kept = newest_sweep(tiny, tmp_path)
    assert kept is not None
    assert kept.place == "dated"
