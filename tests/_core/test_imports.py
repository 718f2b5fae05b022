"""Acting on another module's import, without importing it."""

import sys
from pathlib import Path

import pytest

from resmoe_lab._core.imports import when_imported


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "awaited.py").write_text("value = 7\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    monkeypatch.delitem(sys.modules, "awaited", raising=False)
    return "awaited"


def test_it_acts_once_after_the_modules_code_has_run(module: str) -> None:
    calls = []
    when_imported(module, lambda: calls.append(sys.modules[module].value))
    assert module not in sys.modules
    assert not calls
    for _ in range(2):
        __import__(module)
    assert calls == [7]


def test_it_acts_at_once_where_the_module_is_there_already(module: str) -> None:
    __import__(module)
    calls = []
    when_imported(module, lambda: calls.append(1))
    assert calls == [1]


def test_a_module_that_is_not_there_stays_missing(module: str) -> None:
    when_imported("awaited_in_vain", lambda: pytest.fail("nothing was imported"))
    with pytest.raises(ModuleNotFoundError):
        __import__("awaited_in_vain")
