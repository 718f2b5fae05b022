"""Disks that are full or cannot be written, on small ones that only root can mount."""

import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from resmoe_lab._core.errors import OutputError, ResourceError
from resmoe_lab._core.progress import Tick
from resmoe_lab.checkpoint import Checkpoint
from resmoe_lab.compress import CompressionConfig, Forecast, compress_checkpoint

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")


@pytest.fixture
def mount(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Mount small disks of given options."""
    places: list[Path] = []

    def call(options: str) -> Path:
        place = tmp_path / f"disk-{len(places)}"
        place.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", place], check=True, capture_output=True)
        places.append(place)
        return place

    yield call
    for place in places:
        subprocess.run(["umount", place], check=True)


def test_a_full_disk_keeps_finished_layers_and_says_so(
    pico_checkpoint: Checkpoint, mount: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = mount("size=1m")
    filler, out = disk / "filler", disk / "out"

    def fill(tick: Tick) -> None:
        """Somebody else takes all the room after the first layer."""
        if tick.done == 1:
            with suppress(OSError), filler.open("wb", buffering=0) as stream:
                while True:
                    stream.write(bytes(4096))
            assert os.statvfs(disk).f_bavail == 0

    monkeypatch.setattr(Forecast, "check", lambda self, out: None)
    with pytest.raises(OutputError, match=r"could not be written.*No space left.*finished before is valid") as caught:
        compress_checkpoint(pico_checkpoint, out, CompressionConfig(layers=[0, 1]), progress=fill)
    assert "\n" not in str(caught.value)
    assert not list(out.glob("*.part"))
    filler.unlink()
    stamp = (out / "resmoe-layer-00000.safetensors").stat().st_mtime_ns
    compress_checkpoint(pico_checkpoint, out, CompressionConfig(layers=[0, 1]))
    assert (out / "resmoe-layer-00000.safetensors").stat().st_mtime_ns == stamp
    compress_checkpoint(pico_checkpoint, tmp_path / "whole", CompressionConfig(layers=[0, 1]))
    for path in (tmp_path / "whole").glob("*.safetensors*"):
        assert path.read_bytes() == (out / path.name).read_bytes()


def test_a_disk_that_is_too_small_is_refused(pico_checkpoint: Checkpoint, mount: Callable[[str], Path]) -> None:
    out = mount("size=8k") / "out"
    with pytest.raises(ResourceError, match=r"on the disk of .*: make room, or name another place"):
        compress_checkpoint(pico_checkpoint, out, CompressionConfig(layers=[0]))
    assert not out.exists()


def test_a_read_only_disk_is_refused(pico_checkpoint: Checkpoint, mount: Callable[[str], Path]) -> None:
    disk = mount("ro,size=1m")
    with pytest.raises(OutputError, match=r"out cannot be made .Read-only file system.: name another place"):
        compress_checkpoint(pico_checkpoint, disk / "out", CompressionConfig(layers=[0]))
    with pytest.raises(OutputError, match=r"cannot be written .Read-only file system.: name another place"):
        compress_checkpoint(pico_checkpoint, disk, CompressionConfig(layers=[0]))
