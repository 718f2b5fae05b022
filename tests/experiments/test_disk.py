"""A disk that is full at any moment of a sweep or an evaluation: one line, and what was finished is gone on with."""

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from resmoe_lab._core import files
from resmoe_lab._core.errors import OutputError
from resmoe_lab.checkpoint import open_checkpoint
from resmoe_lab.experiments.comparison import score_checkpoint
from resmoe_lab.experiments.run_sweep import run_sweep
from resmoe_lab.experiments.sweep import Sweep
from resmoe_lab.scoring import score_cache
from resmoe_lab.scoring.score_cache import ScoreCache
from resmoe_lab.scoring.scorer import TaskScorer, all_scores

from .resumed import TASKS, same_sweep, small_sweep
from .test_comparison import pico_model as pico_model


@contextmanager
def filling_up(monkeypatch: pytest.MonkeyPatch, moment: int) -> Iterator[Callable[[], bool]]:
    """Let the disk be full when something is flushed to it for the n-th time, and ever after."""
    count, flush = 0, os.fsync

    def full(descriptor: int) -> None:
        nonlocal count
        count += 1
        if count >= moment:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        flush(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(files.os, "fsync", full)
        yield lambda: count >= moment


def _one_line(error: OutputError) -> None:
    assert len(str(error).splitlines()) == 1
    assert "could not be written (No space left on device): what was finished before is valid" in str(error)


def test_a_sweep_goes_on_from_any_moment(pico_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    expected = small_sweep(pico_model, tmp_path / "undisturbed")
    moment, filled = 1, True
    while filled:
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / f"cache-{moment}"))
        out = tmp_path / f"out-{moment}"
        with filling_up(monkeypatch, moment) as is_full:
            try:
                small_sweep(pico_model, out)
            except OutputError as error:
                _one_line(error)
            filled = is_full()
        assert not [path for path in out.glob("*") if path.name == ".lock" or path.suffix == ".part"]
        if (out / "sweep.json").is_file():  # written last: all that counts is there
            same_sweep(Sweep.load(out), expected)
        same_sweep(small_sweep(pico_model, out), expected)
        moment += 4
    assert moment > 20


def test_an_evaluation_goes_on_from_any_moment(
    pico_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(score_cache, "_SAVE_INTERVAL", 0.0)
    checkpoint = open_checkpoint(pico_model)

    def scored(name: str) -> list[object]:
        scorer = TaskScorer(TASKS, limit=4, cache=ScoreCache(tmp_path / name))
        return list(all_scores(score_checkpoint(checkpoint, scorer)))

    expected, moment, filled = scored("undisturbed"), 1, True
    while filled:
        with filling_up(monkeypatch, moment) as is_full:
            try:
                scored(f"cache-{moment}")
            except OutputError as error:
                _one_line(error)
            filled = is_full()
        assert scored(f"cache-{moment}") == expected
        moment += 1
    assert moment > 4


def test_a_folder_that_cannot_be_made_is_named(pico_model: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(OutputError, match="is a file, expected a folder"):
        run_sweep(open_checkpoint(pico_model), tmp_path / "file" / "out", layers=[0], methods=["up"], tasks=TASKS)
    scorer = TaskScorer(TASKS[:1], limit=1, cache=ScoreCache(tmp_path / "file" / "cache"))
    with pytest.raises(OutputError, match=r"cache cannot be made .Not a directory.: name another place"):
        score_checkpoint(open_checkpoint(pico_model), scorer)
