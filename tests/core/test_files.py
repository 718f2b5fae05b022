"""Whole files and held folders, also when the writer dies in the middle."""

import subprocess
import sys
from pathlib import Path

import pytest

from resmoe_lab._core.errors import OutputError
from resmoe_lab._core.files import held, remove_parts, whole_file


def test_a_file_appears_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "x.txt"
    with whole_file(path) as part:
        part.write_text("half")
        assert not path.exists()
    assert [item.name for item in tmp_path.iterdir()] == ["x.txt"]
    assert path.read_text() == "half"


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "x.txt"
    path.write_text("old")

    def interrupted() -> None:
        with whole_file(path) as part:
            part.write_text("new")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert [item.name for item in tmp_path.iterdir()] == ["x.txt"]
    assert path.read_text() == "old"


def test_a_full_disk_is_one_clear_line(tmp_path: Path) -> None:
    with (
        pytest.raises(OutputError, match=r"No space left on device.*finished before is valid") as caught,
        whole_file(tmp_path / "x"),
        open("/dev/full", "w") as stream,
    ):
        stream.write("x" * 100_000)
    assert "\n" not in str(caught.value)


_DIES = "import sys, os; from resmoe_lab._core.files import held, whole_file; from pathlib import Path\n"


def test_a_dead_process_holds_nothing(tmp_path: Path) -> None:
    code = f"{_DIES}with held(Path(sys.argv[1])), whole_file(Path(sys.argv[1]) / 'x') as p: p.touch(); os._exit(9)"
    assert subprocess.run([sys.executable, "-c", code, tmp_path], check=False).returncode == 9
    assert {item.suffix for item in tmp_path.iterdir()} == {"", ".part"}
    with held(tmp_path):
        remove_parts(tmp_path)
        assert [item.name for item in tmp_path.iterdir()] == [".lock"]
    assert list(tmp_path.iterdir()) == []


def test_what_writers_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    for name in ("x.1a2b.part", ".tmpA1b2C3", "tmpA1b2C3", ".tmp", "layer.safetensors"):
        (tmp_path / name).touch()
    remove_parts(tmp_path)
    assert {item.name for item in tmp_path.iterdir()} == {"tmpA1b2C3", ".tmp", "layer.safetensors"}


def test_a_living_process_holds_the_folder_and_is_named(tmp_path: Path) -> None:
    code = f"{_DIES}with held(Path(sys.argv[1])): print(os.getpid(), flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", code, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        number = int(other.stdout.readline())
        with pytest.raises(OutputError, match=f"is being written by process {number} on "), held(tmp_path):
            pass
        other.communicate("")
    with held(tmp_path):
        pass
