from __future__ import annotations

import threading

import pytest

from resmoe_lab._core.errors import Cancelled
from resmoe_lab._core.progress import Progress, Tick, tracked
from resmoe_lab.workbench.job import Job, Latest

_PATIENCE = 60


def test_a_job_delivers_its_result_and_its_ticks() -> None:
    ticks: list[Tick] = []
    ended = threading.Event()
    job = Job(
        lambda progress: sum(tracked(range(4), "sum", progress)), progress=ticks.append, done=lambda _: ended.set()
    )
    assert job.result(_PATIENCE) == 6
    assert ended.wait(_PATIENCE)
    assert not job.running
    assert job.error is None
    assert [tick.done for tick in ticks] == [0, 1, 2, 3, 4]


def test_a_job_delivers_what_was_raised() -> None:
    def work(_: Progress) -> None:
        raise ValueError("no good")

    job = Job(work)
    with pytest.raises(ValueError, match="no good"):
        job.result(_PATIENCE)
    assert isinstance(job.error, ValueError)


def test_a_job_stops_at_its_next_tick() -> None:
    started, go_on, steps = threading.Event(), threading.Event(), []

    def work(progress: Progress) -> None:
        for step in range(1000):
            progress(Tick("count", step, 1000))
            steps.append(step)
            started.set()
            assert go_on.wait(_PATIENCE)

    job = Job(work)
    assert started.wait(_PATIENCE)
    assert job.running
    job.cancel()
    go_on.set()
    with pytest.raises(Cancelled, match="count was stopped at step 1"):
        job.result(_PATIENCE)
    assert steps == [0]


def test_a_job_runs_beside_its_caller() -> None:
    job = Job(lambda _: threading.current_thread().name)
    assert job.result(_PATIENCE) != threading.current_thread().name


def test_only_the_newest_waiting_call_runs() -> None:
    first_runs, release, ran = threading.Event(), threading.Event(), []

    def first() -> None:
        first_runs.set()
        assert release.wait(_PATIENCE)
        ran.append("first")

    latest = Latest(failed=lambda error: ran.append(str(error)))
    latest.submit(first)
    assert first_runs.wait(_PATIENCE)
    for name in ("second", "third", "fourth"):
        latest.submit(lambda name=name: ran.append(name))
    release.set()
    latest.wait(_PATIENCE)
    assert ran == ["first", "fourth"]


def test_a_failing_call_is_told_and_raised() -> None:
    errors: list[str] = []

    def fail() -> None:
        raise ValueError("bad picture")

    latest = Latest(failed=lambda error: errors.append(str(error)))
    latest.submit(fail)
    with pytest.raises(ValueError, match="bad picture"):
        latest.wait(_PATIENCE)
    latest.submit(lambda: None)
    latest.wait(_PATIENCE)
    assert errors == ["bad picture"]
