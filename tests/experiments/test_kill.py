"""Sweeps and evaluations that are killed at any moment end, run again, as undisturbed ones do."""

import multiprocessing
import os
import random
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from resmoe_lab.checkpoint import open_checkpoint
from resmoe_lab.experiments.comparison import score_checkpoint
from resmoe_lab.scoring import score_cache
from resmoe_lab.scoring.score_cache import ScoreCache
from resmoe_lab.scoring.scorer import TaskScorer, all_scores

from .resumed import TASKS, same_sweep, small_sweep
from .test_comparison import pico_model as pico_model

_MOMENTS = 3


def _killed(work: Callable[[], object], after: float) -> bool:
    """Do some work in a child that is killed from a thread of its own: no handler, no cleaning up."""

    def dies() -> None:
        torch.set_num_threads(1)  # OpenMP's threads do not survive a fork
        threading.Timer(after, lambda: os.kill(os.getpid(), signal.SIGKILL)).start()
        work()
        os._exit(0)

    child = multiprocessing.get_context("fork").Process(target=dies)
    child.start()
    child.join()
    assert child.exitcode in (0, -signal.SIGKILL)
    return child.exitcode != 0


def _moments(work: Callable[[], object]) -> list[float]:
    begun = time.perf_counter()
    work()
    seconds = time.perf_counter() - begun
    return [random.Random(seed).uniform(0.1, 0.9) * seconds for seed in range(_MOMENTS)]


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sums are the same in a child of one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    monkeypatch.setattr(score_cache, "_SAVE_INTERVAL", 0.0)
    yield
    torch.set_num_threads(threads)


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_sweep(pico_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    expected = small_sweep(pico_model, tmp_path / "undisturbed")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache-timed"))
    moments = _moments(lambda: small_sweep(pico_model, tmp_path / "timed"))
    killed = 0
    for number, after in enumerate(moments):
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / f"cache-{number}"))
        out = tmp_path / f"out-{number}"
        killed += _killed(lambda out=out: small_sweep(pico_model, out), after)
        same_sweep(small_sweep(pico_model, out), expected)
    assert killed


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_an_evaluation(pico_model: Path, tmp_path: Path) -> None:
    checkpoint = open_checkpoint(pico_model)

    def scored(name: str) -> list[object]:
        scorer = TaskScorer(TASKS, limit=32, cache=ScoreCache(tmp_path / name))
        return list(all_scores(score_checkpoint(checkpoint, scorer)))

    expected = scored("undisturbed")
    killed = 0
    for number, after in enumerate(_moments(lambda: scored("timed"))):
        killed += _killed(lambda number=number: scored(f"cache-{number}"), after)
        assert scored(f"cache-{number}") == expected
    assert killed
