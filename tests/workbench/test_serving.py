from __future__ import annotations

import ast
from pathlib import Path

import nbformat
import pytest

from resmoe_lab._core.errors import ResmoeError
from resmoe_lab.workbench import serving
from resmoe_lab.workbench.serving import app_command, write_app


def test_the_notebook_opens_the_checkpoint_whatever_it_is_called(tmp_path: Path) -> None:
    evil = 'it\'s "quoted"; import os\n#<script>'
    [cell] = nbformat.read(write_app(tmp_path, evil, here=tmp_path), as_version=4).cells
    [made] = [line for line in ast.parse(cell.source).body if isinstance(line, ast.Assign)]
    assert isinstance(made.value, ast.Call)
    assert ast.literal_eval(made.value.args[0]) == evil


def test_it_listens_to_this_machine_only_and_asks_for_a_token(tmp_path: Path) -> None:
    command = app_command(tmp_path / "app.ipynb", host="127.0.0.1", port=1234, browser=False)
    assert "--Voila.ip=127.0.0.1" in command
    assert "--Voila.auto_token=True" in command
    assert "--no-browser" in command
    assert "--preheat_kernel=True" in command


def test_without_voila_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "find_spec", lambda name: None)
    with pytest.raises(ResmoeError, match=r"pip install 'resmoe-lab\[app\]'"):
        app_command(tmp_path / "app.ipynb", host="127.0.0.1", port=1234, browser=False)
