"""The same work with no scheduler and with dask, whose workers may be lost."""

import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from resmoe_lab._core.errors import Cancelled, ResmoeError, UsageError
from resmoe_lab._core.progress import Tick
from resmoe_lab.checkpoint import Checkpoint
from resmoe_lab.compress import CompressionConfig, compress_checkpoint, schedule
from resmoe_lab.compress.schedule import run_all, worker_count


@dataclass(frozen=True)
class Errand:
    folder: Path
    number: int

    @property
    def log(self) -> Path:
        return self.folder / f"{self.number}.log"


def note(errand: Errand) -> None:
    with errand.log.open("a") as stream:
        stream.write(f"{os.getpid()}\n")


def note_or_die(errand: Errand) -> None:
    """The first process that is given errand 1 dies of it."""
    first = not errand.log.exists()
    note(errand)
    if errand.number == 1 and first:
        os.kill(os.getpid(), signal.SIGKILL)


def fail(errand: Errand) -> None:
    raise UsageError(f"errand {errand.number} cannot be done")


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """The address of a scheduler with two workers."""
    from distributed import LocalCluster

    with LocalCluster(n_workers=2, threads_per_worker=1, memory_limit=0, dashboard_address=":0") as running:
        yield running.scheduler_address


@pytest.mark.parametrize(("text", "count"), [(None, 1), ("local:2", 2), ("local:64", 64), ("tcp://host:8786", 0)])
def test_how_many_share_this_machine(text: str | None, count: int) -> None:
    assert worker_count(text) == count


@pytest.mark.parametrize("text", ["", "local", "local:0", "local:-1", "local:99999", "host:8786", "tcp://", "yarn"])
def test_a_scheduler_that_is_not_understood(text: str) -> None:
    with pytest.raises(UsageError, match="is not understood: expected 'local:2'"):
        worker_count(text)


def test_without_a_scheduler_it_happens_here_and_in_order(tmp_path: Path) -> None:
    errands = [Errand(tmp_path, number) for number in range(3)]
    assert list(run_all(note, errands)) == errands
    assert {errand.log.read_text() for errand in errands} == {f"{os.getpid()}\n"}


def test_a_lost_workers_errand_is_done_by_another(cluster: str, tmp_path: Path) -> None:
    errands = [Errand(tmp_path, number) for number in range(4)]
    done = list(run_all(note_or_die, errands, scheduler=cluster))
    assert sorted(errand.number for errand in done) == [0, 1, 2, 3]
    dead, alive = (tmp_path / "1.log").read_text().split()
    assert dead != alive
    assert str(os.getpid()) not in {dead, alive}


def test_an_error_of_a_worker_is_ours(cluster: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="errand 0 cannot be done"):
        list(run_all(fail, [Errand(tmp_path, 0)], scheduler=cluster))


def test_nobody_at_the_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schedule, "_PATIENCE", 1)
    with pytest.raises(ResmoeError, match=r"no dask scheduler answers at tcp://127\.0\.0\.1:9"):
        list(run_all(note, [], scheduler="tcp://127.0.0.1:9"))


def test_two_workers_make_what_one_process_makes(pico_checkpoint: Checkpoint, tmp_path: Path) -> None:
    options = {"layers": [0, 1], "keep": 0.4}
    compress_checkpoint(pico_checkpoint, tmp_path / "alone", CompressionConfig(**options))
    ticks: list[Tick] = []
    compress_checkpoint(
        pico_checkpoint, tmp_path / "both", CompressionConfig(**options), scheduler="local:2", progress=ticks.append
    )
    assert [tick.done for tick in ticks] == [0, 1, 2]
    for path in (tmp_path / "alone").glob("*.safetensors*"):
        assert path.read_bytes() == (tmp_path / "both" / path.name).read_bytes()


def test_it_can_be_cancelled(cluster: str, pico_checkpoint: Checkpoint, tmp_path: Path) -> None:
    def stop(tick: Tick) -> None:
        if tick.done == 1:
            raise Cancelled("stopped")

    config = CompressionConfig(layers=[0, 1])
    with pytest.raises(Cancelled):
        compress_checkpoint(pico_checkpoint, tmp_path / "out", config, scheduler=cluster, progress=stop)
    assert not (tmp_path / "out" / ".lock").exists()
    assert compress_checkpoint(pico_checkpoint, tmp_path / "out", config, scheduler=cluster)["finished"]
