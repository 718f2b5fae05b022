"""Whole files and held folders, also when the writer dies in the middle."""

import errno
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from resmoe_lab._core.errors import OutputError
from resmoe_lab._core.files import (
    atomic_write,
    check_place,
    folder_lock,
    make_folder,
    remove_partial_files,
    reserve,
    temporary_folder,
)


def test_a_file_appears_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "x.txt"
    with atomic_write(path) as part:
        part.write_text("half")
        assert not path.exists()
    assert [item.name for item in tmp_path.iterdir()] == ["x.txt"]
    assert path.read_text() == "half"


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "x.txt"
    path.write_text("old")

    def interrupted() -> None:
        with atomic_write(path) as part:
            part.write_text("new")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert [item.name for item in tmp_path.iterdir()] == ["x.txt"]
    assert path.read_text() == "old"


def test_a_full_disk_is_one_clear_line(tmp_path: Path) -> None:
    with (
        pytest.raises(OutputError, match=r"No space left on device.*finished before is valid") as caught,
        atomic_write(tmp_path / "x"),
        open("/dev/full", "w") as stream,
    ):
        stream.write("x" * 100_000)
    assert "\n" not in str(caught.value)


_DIES = "import sys, os; from resmoe_lab._core.files import atomic_write, folder_lock; from pathlib import Path\n"


def test_a_dead_process_holds_nothing(tmp_path: Path) -> None:
    works = "with folder_lock(Path(sys.argv[1])), atomic_write(Path(sys.argv[1]) / 'x') as p: p.touch(); os._exit(9)"
    code = f"{_DIES}{works}"
    assert subprocess.run([sys.executable, "-c", code, tmp_path], check=False).returncode == 9
    assert {item.suffix for item in tmp_path.iterdir()} == {"", ".part"}
    with folder_lock(tmp_path):
        remove_partial_files(tmp_path)
        assert [item.name for item in tmp_path.iterdir()] == [".lock"]
    assert list(tmp_path.iterdir()) == []


def test_what_writers_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    for name in ("x.1a2b.part", ".tmpA1b2C3", "tmpA1b2C3", ".tmp", "layer.safetensors"):
        (tmp_path / name).touch()
    remove_partial_files(tmp_path)
    assert {item.name for item in tmp_path.iterdir()} == {"tmpA1b2C3", ".tmp", "layer.safetensors"}


def test_a_living_process_holds_the_folder_and_is_named(tmp_path: Path) -> None:
    code = f"{_DIES}with folder_lock(Path(sys.argv[1])): print(os.getpid(), flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", code, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        number = int(other.stdout.readline())
        with pytest.raises(OutputError, match=f"is being written by process {number} on "), folder_lock(tmp_path):
            pass
        other.communicate("")
    with folder_lock(tmp_path):
        pass


def _holder(prefix: str) -> tuple[subprocess.Popen[str], Path]:
    """A process that holds a scratch folder until it is killed."""
    code = f"from resmoe_lab._core.files import temporary_folder\nwith temporary_folder({prefix!r}) as at:\n"
    code += "    (at / 'states').write_text('x')\n    print(at, flush=True)\n    input()"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    process = subprocess.Popen([sys.executable, "-c", code], text=True, **pipes)
    assert process.stdout is not None
    return process, Path(process.stdout.readline().strip())


def test_a_temporary_folder_goes_with_the_block_and_takes_those_of_dead_processes_along(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    living, theirs = _holder("lower-")
    dying, left = _holder("lower-")
    dying.kill()
    dying.wait()
    assert f"process {dying.pid} on" in (left / ".lock").read_text()
    with temporary_folder("lower-") as folder:
        assert f"process {os.getpid()} on" in (folder / ".lock").read_text()
        assert {path.name for path in tmp_path.iterdir()} == {folder.name, theirs.name}
        assert (theirs / "states").read_text() == "x"
    assert [path.name for path in tmp_path.iterdir()] == [theirs.name]
    living.kill()
    living.wait()


def test_what_no_dead_process_held_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    places = {name: tmp_path / name for name in ("mine", "lower-open", "lower-empty", "lower-locked", "other-dead")}
    for place in places.values():
        place.mkdir()
        (place / "thesis").write_text("precious")
    for name in ("mine", "other-dead"):
        (places[name] / ".lock").write_text("process 1 on nowhere")
    (places["lower-empty"] / ".lock").touch()  # held by somebody in a moment
    (places["lower-locked"] / ".lock").symlink_to(places["mine"] / ".lock")
    (tmp_path / "lower-link").symlink_to(places["mine"])
    (tmp_path / "lower-file").write_text("process 1 on nowhere")
    before = sorted(tmp_path.rglob("*"))
    with temporary_folder("lower-"):
        pass
    assert sorted(tmp_path.rglob("*")) == before


def test_a_place_that_can_be_written_is_left_as_it_is(tmp_path: Path) -> None:
    check_place(tmp_path)
    check_place(tmp_path / "new" / "deep")
    assert not list(tmp_path.iterdir())


def test_a_place_below_a_file_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("mine")
    for place, said in ((file, "is a file"), (file / "a" / "b", f"cannot be made, since {file} is a file")):
        with pytest.raises(OutputError, match=f"{said}, expected a folder: name another place"):
            check_place(place)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_place_in_a_folder_of_others_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(OutputError, match=r"out cannot be made .Permission denied.: name another place"):
            check_place(tmp_path / "out")
    finally:
        tmp_path.chmod(0o700)


def _full(*arguments: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


FULL = r"could not be written .No space left on device.: what was finished before is valid; make room"


def test_a_folder_on_a_full_disk_is_not_locked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", _full)
        with pytest.raises(OutputError, match=rf"\.lock {FULL}"), folder_lock(tmp_path):
            pass
    assert not list(tmp_path.iterdir())
    with folder_lock(tmp_path):
        assert (tmp_path / ".lock").is_file()


def test_no_room_for_a_temporary_folder_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "mkdtemp", _full)
    with pytest.raises(OutputError, match=FULL), temporary_folder("resmoe-test-"):
        pass


def test_a_folder_is_made_or_named(tmp_path: Path) -> None:
    assert make_folder(tmp_path / "a" / "b").is_dir()
    assert make_folder(tmp_path / "a" / "b").is_dir()
    (tmp_path / "file").write_text("mine")
    with pytest.raises(OutputError, match=r"c cannot be made .Not a directory.: name another place"):
        make_folder(tmp_path / "file" / "c")


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere no room is reserved")
def test_room_for_a_mapped_file_is_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reserve(tmp_path / "x", 1 << 16)
    status = (tmp_path / "x").stat()
    assert (status.st_size, status.st_blocks * 512 >= 1 << 16) == (1 << 16, True)
    monkeypatch.setattr(os, "posix_fallocate", _full)
    with pytest.raises(OutputError, match=FULL):
        reserve(tmp_path / "y", 1 << 16)
