import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from resmoe_lab._core.errors import OutputError
from resmoe_lab.checkpoint.writer import write_json, write_tensors


def test_tensors_come_back(tmp_path: Path) -> None:
    tensors = {"a": torch.randn(3, 4).T, "b": torch.arange(3, dtype=torch.bfloat16)}
    path = write_tensors(tmp_path / "x.safetensors", tensors)
    assert {name: tensor.tolist() for name, tensor in load_file(path).items()} == {
        name: tensor.tolist() for name, tensor in tensors.items()
    }
    assert [item.name for item in tmp_path.iterdir()] == ["x.safetensors"]


def test_a_failed_write_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="could not be written"):
        write_tensors(tmp_path / "missing" / "x.safetensors", {"a": torch.zeros(1)})
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_rename_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_json(tmp_path / "x.json", {"a": 1})
    before = path.read_bytes()

    def fail(descriptor: int) -> None:
        raise OSError("pulled the plug")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OutputError, match="pulled the plug"):
        write_json(path, {"a": 2})
    assert path.read_bytes() == before
