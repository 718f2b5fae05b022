from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from resmoe_lab._core.errors import CheckpointError
from resmoe_lab.fusion import load_mlpnet, save_network

from .networks import largest_difference, mlp, vgg


@pytest.mark.parametrize("bias", [False, True])
def test_a_network_comes_back(tmp_path: Path, bias: bool) -> None:
    network = mlp(bias=bias)
    path = save_network(network, tmp_path / "new" / "a.safetensors")
    assert largest_difference(load_mlpnet(path), network) == 0
    published = tmp_path / "final.checkpoint"
    torch.save({"model_state_dict": network.state_dict(), "epoch": 10}, published)
    assert largest_difference(load_mlpnet(published), network) == 0


class _Evil:
    def __reduce__(self) -> tuple[object, ...]:
        return os.system, ("touch pwned",)


def test_code_in_a_checkpoint_never_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"model_state_dict": _Evil()}, tmp_path / "evil.checkpoint")
    with pytest.raises(CheckpointError, match="more than tensors"):
        load_mlpnet(tmp_path / "evil.checkpoint")
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize("content", [b"", b"garbage", b"PK\x03\x04"])
@pytest.mark.parametrize("name", ["a.checkpoint", "a.safetensors"])
def test_a_damaged_file_is_one_line(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CheckpointError, match="is damaged") as caught:
        load_mlpnet(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_what_is_no_mlpnet_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no network at"):
        load_mlpnet(tmp_path / "none.safetensors")
    with pytest.raises(CheckpointError, match=r"expected fc1\.weight"):
        load_mlpnet(save_network(vgg(), tmp_path / "vgg.safetensors"))
    broken = mlp()
    broken.fc2 = torch.nn.Linear(5, 7)
    with pytest.raises(CheckpointError, match="of one chain"):
        load_mlpnet(save_network(broken, tmp_path / "broken.safetensors"))
