from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import nbformat
import psutil
import pytest

from resmoe_lab._core.errors import Cancelled, DataError, OutputError
from resmoe_lab._core.progress import Tick
from resmoe_lab.report import build_report, execute
from resmoe_lab.report.build import report_notebook
from resmoe_lab.report.execute import run_notebook

from ..plots.synthetic import make_sweep


def _kernels() -> set[int]:
    """Processes of notebooks that this one has started and that run."""
    found = set()
    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):  # it has ended meanwhile
            if "ipykernel_launcher" in " ".join(child.cmdline()):
                found.add(child.pid)
    return found


@pytest.fixture(autouse=True)
def no_kernel_stays() -> Iterator[None]:
    """Whether a notebook ends, fails or is cancelled, so does its process, which holds half a gigabyte."""
    before = _kernels()
    yield
    assert _kernels() <= before


def test_a_report_is_one_whole_file(tmp_path: Path) -> None:
    """Built from a folder with one layer and no task: nothing but text is missing."""
    folder = make_sweep(layers=1, experts=3, width=10, tasks=False).save(tmp_path / "sweep")
    ticks: list[Tick] = []
    out = build_report(folder, tmp_path / "made" / "report.html", progress=ticks.append)
    page = out.read_text("utf-8")
    assert [path.name for path in out.parent.iterdir()] == ["report.html"]
    assert out.stat().st_size < 3_000_000
    assert page.count("window.vegaEmbed = vegaEmbed") + page.count("window.vegaEmbed=") == 1, "the bundle comes once"
    assert not re.search(r"""<(script|link|img|iframe)\b[^>]*\b(src|href)=["']?(https?:)?//""", page)
    assert "Sweep.load(" not in page, "code is not shown"
    assert "No task was scored in this sweep." in page
    assert ticks[-1] == Tick("export", 1, 1)
    notebook = [tick for tick in ticks if tick.task == "notebook model"]
    assert [tick.done for tick in notebook] == list(range(len(notebook)))
    assert notebook[-1].done == notebook[-1].total


def test_a_folder_is_no_place_for_a_file(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="is a folder"):
        build_report(make_sweep(layers=1), tmp_path)


def test_a_folder_without_a_sweep_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no finished sweep"):
        build_report(tmp_path, tmp_path / "out" / "report.html")
    assert list(tmp_path.iterdir()) == []


def test_cancelling_leaves_nothing_behind(tmp_path: Path) -> None:
    def stop(tick: Tick) -> None:
        raise Cancelled("stopped")

    with pytest.raises(Cancelled):
        build_report(make_sweep(layers=1, experts=2, width=6), tmp_path / "report.html", progress=stop)
    assert list(tmp_path.iterdir()) == []


def test_a_failing_notebook_is_one_line(tmp_path: Path) -> None:
    notebook = nbformat.v4.new_notebook(
        metadata={"kernelspec": {"name": "no such kernel", "display_name": "x", "language": "python"}}
    )
    notebook.cells.append(nbformat.v4.new_code_cell("number = 1", metadata={"tags": ["parameters"]}))
    notebook.cells.append(nbformat.v4.new_code_cell("raise ValueError(f'number is {number}\\nand more')"))
    nbformat.write(notebook, tmp_path / "failing.ipynb")
    with pytest.raises(OutputError) as caught:
        run_notebook(tmp_path / "failing.ipynb", {"number": 7})
    assert str(caught.value) == "failing.ipynb failed with ValueError: number is 7"


def test_an_unknown_report_names_the_places() -> None:
    with pytest.raises(OutputError, match="notebooks/reports"):
        report_notebook("no-such-report")


def _full(*arguments: object, **options: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "somewhere")


def test_a_full_disk_leaves_nothing_and_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the notebook runs, when the page is written, and when its tables are."""
    sweep, out = make_sweep(layers=1, tasks=False), tmp_path / "made" / "report.html"
    page = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("Nothing.")])
    said = r"could not be written .No space left on device.: what was finished before is valid"
    with monkeypatch.context() as patch:
        patch.setattr(execute, "run_notebook", _full)
        with pytest.raises(OutputError, match=f"somewhere {said}"):
            build_report(sweep, out)
    monkeypatch.setattr(execute, "run_notebook", lambda *arguments, **options: page)
    fsync, moment, lines = os.fsync, 0, list[str]()
    while len(lines) == moment:
        moment, count = moment + 1, 0

        def full(descriptor: int, moment: int = moment) -> None:
            nonlocal count
            count += 1
            _full() if count >= moment else fsync(descriptor)

        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", full)
            try:
                build_report(sweep, out)
            except OutputError as error:
                lines.append(str(error))
        # The very last flush is that of the folder, in which the whole page is already.
        assert [path.name for path in out.parent.glob("*")] in ([], [out.name])
    assert len(lines) > 10
    assert all(re.search(said, line) and len(line.splitlines()) == 1 for line in lines)
    assert "Nothing." in out.read_text("utf-8")
