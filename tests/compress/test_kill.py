"""A run that is killed at any moment, again and again, ends as an undisturbed one does."""

import json
import multiprocessing
import os
import random
import signal
import threading
import time
from pathlib import Path

import pytest
import torch

from resmoe_lab._core.errors import OutputError
from resmoe_lab.checkpoint import Checkpoint, open_checkpoint
from resmoe_lab.compress import CompressionConfig, compress_checkpoint

_TIMINGS = ("seconds", "peak_rss_bytes", "forecast")
_OPTIONS = {"layers": [0, 1], "method": "resmoe-up", "keep": 0.4}


def _run(source: str, out: Path, export: str = "packed") -> None:
    compress_checkpoint(open_checkpoint(source), out, CompressionConfig(export=export, **_OPTIONS))


def _dies(source: str, out: Path, after: float, export: str) -> None:
    """Run, and be killed from a thread of its own as nothing else could: no handler, no cleaning up."""
    torch.set_num_threads(1)  # OpenMP's threads do not survive a fork
    threading.Timer(after, lambda: os.kill(os.getpid(), signal.SIGKILL)).start()
    _run(source, out, export)
    os._exit(0)


def _content(folder: Path) -> dict[str, object]:
    """Every file of a result, the manifest without what no two runs share."""
    files: dict[str, object] = {path.name: path.read_bytes() for path in folder.iterdir()}
    manifest = json.loads(files.pop("resmoe_manifest.json"))
    for part in [manifest, *manifest["layers"].values()]:
        for name in _TIMINGS:
            part.pop(name, None)
    return files | {"manifest": manifest}


@pytest.fixture(scope="module")
def fork() -> multiprocessing.context.BaseContext:
    """Forked children share what is imported: a start takes milliseconds."""
    return multiprocessing.get_context("fork")


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.parametrize("export", ["dense", "packed"])
def test_killed_ten_times_it_ends_the_same(export: str, pico_checkpoint: Checkpoint, tmp_path: Path, fork) -> None:
    source = pico_checkpoint.source
    _run(source, tmp_path / "undisturbed", export)
    expected = _content(tmp_path / "undisturbed")
    begun = time.perf_counter()
    _run(source, tmp_path / "timed", export)
    seconds = time.perf_counter() - begun
    killed = 0
    for seed in range(10):
        out = tmp_path / f"killed-{seed}"
        child = fork.Process(target=_dies, args=(source, out, random.Random(seed).uniform(0, seconds), export))
        child.start()
        child.join()
        assert child.exitcode in (0, -signal.SIGKILL)
        killed += child.exitcode != 0
        if child.exitcode == 0:
            seconds *= 0.6  # the machine was busier when it was timed
        _run(source, out, export)
        assert _content(out) == expected, seed
    assert killed >= 5


def test_the_second_run_into_a_folder_is_refused(pico_checkpoint: Checkpoint, tmp_path: Path, fork) -> None:
    from resmoe_lab._core.files import folder_lock

    out, ready = tmp_path / "out", fork.Event()
    out.mkdir()

    def hold() -> None:
        with folder_lock(out):
            ready.set()
            time.sleep(600)

    other = fork.Process(target=hold)
    other.start()
    try:
        assert ready.wait(60)
        with pytest.raises(OutputError, match=f"is being written by process {other.pid} on "):
            _run(pico_checkpoint.source, out)
    finally:
        other.kill()
        other.join()
    _run(pico_checkpoint.source, out)
