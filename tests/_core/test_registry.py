import importlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from resmoe_lab._core.errors import UsageError
from resmoe_lab.methods import METHODS


def test_every_file_of_the_folder_is_found() -> None:
    assert {"up", "svd", "resmoe-up", "resmoe-svd"} <= set(METHODS.names())
    assert list(METHODS) == METHODS.names()


def test_similar_names_are_suggested() -> None:
    with pytest.raises(UsageError, match="did you mean resmoe-up"):
        METHODS["resmo-up"]


def test_an_unlike_name_gets_the_whole_list() -> None:
    with pytest.raises(UsageError, match="choose from"):
        METHODS["zzzzzz"]


def test_a_name_cannot_be_taken_twice() -> None:
    with pytest.raises(ValueError, match="two methods are called 'up'"):
        METHODS.register("up", title="UP", reference="again")(METHODS["up"].method)


def test_a_second_thread_waits_until_all_entries_are_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A panel's thread and a notebook's cell may ask for the first time together."""
    folder = tmp_path / "slow_entries"
    folder.mkdir()
    (folder / "__init__.py").write_text(
        "import threading\nfrom resmoe_lab._core.registry import Registry\n"
        "begun, go_on = threading.Event(), threading.Event()\nENTRIES = Registry('entry', 'slow_entries')\n"
    )
    (folder / "first.py").write_text(
        "from . import ENTRIES, begun, go_on\nENTRIES.register('first')(1)\nbegun.set()\nassert go_on.wait(30)\n"
    )
    (folder / "second.py").write_text("from . import ENTRIES\nENTRIES.register('second')(2)\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    entries = importlib.import_module("slow_entries")
    with ThreadPoolExecutor(2) as threads:
        one = threads.submit(entries.ENTRIES.names)
        assert entries.begun.wait(30)
        other = threads.submit(entries.ENTRIES.__getitem__, "second")
        assert not other.done()
        entries.go_on.set()
        assert one.result(30) == ["first", "second"]
        assert other.result(30) == 2
