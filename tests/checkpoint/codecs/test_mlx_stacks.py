"""Checkpoints of mlx-lm against mlx-lm's own logits, and its stacks of experts against the model that they are of.

``tests/data/by-mlx-lm`` was written by mlx-lm 0.32.2 on MLX 0.32.4 (``quantize_model``, 4 bits in groups of 32, what
does not divide left as floats), with the logits that MLX computes of the tokens of ``tests.architectures.logits_of``.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import resmoe_lab as rl
from resmoe_lab._core.errors import CheckpointError
from resmoe_lab.checkpoint.reader import read_tensors
from resmoe_lab.compress import CompressionConfig, compress_checkpoint

from ...architectures import logits_of, tiny_model

BY_MLX_LM = Path(__file__).parents[2] / "data" / "by-mlx-lm"
#: What mlx-lm calls the matrices of an expert, and what the model's own files do.
_NAMES = {
    "mixtral": {"gate_proj": "w1", "up_proj": "w3", "down_proj": "w2"},
    "qwen2_moe": {name: name for name in ("gate_proj", "up_proj", "down_proj")},
}


@pytest.mark.parametrize("model", ["mixtral", "deepseek_v3"])
def test_a_model_computes_what_mlx_computes(model: str) -> None:
    """Stacks of codes and of floats, and for DeepSeek keys and values that mlx-lm has split."""
    expected = load_file(BY_MLX_LM / model / "logits.expected")["logits"]
    torch.testing.assert_close(logits_of(rl.load(BY_MLX_LM / model)), expected, rtol=0, atol=3e-5)


@pytest.mark.parametrize("export", ["packed", "dense"])
def test_a_compressed_one_is_the_model_s_own_layout(export: Any, tmp_path: Path) -> None:
    """With everything kept it computes the same, and nothing says that it is MLX's."""
    from transformers import AutoModelForCausalLM

    source = rl.open_checkpoint(BY_MLX_LM / "deepseek_v3")
    config = CompressionConfig(method="resmoe-up", keep=1, storage={"encoding": "fp32"}, export=export)
    compress_checkpoint(source, tmp_path / "out", config)
    assert "quantization" not in json.loads((tmp_path / "out" / "config.json").read_text())
    if export == "packed":
        model = rl.load(tmp_path / "out")
    else:
        model = AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype=torch.float32).eval()
    torch.testing.assert_close(logits_of(model), logits_of(rl.load(source)), rtol=0, atol=3e-5)


def stacked(model: str, folder: Path) -> dict[str, torch.Tensor]:
    """Save a tiny model with its experts stacked as mlx-lm's ``sanitize`` does; return what it was."""
    tiny_model(model).save_pretrained(folder)
    own = load_file(folder / "model.safetensors")
    tensors = {name: tensor for name, tensor in own.items() if ".experts." not in name}
    for name in own:
        block, inside, rest = name.partition(".experts.0.")
        for theirs, ours in _NAMES[model].items():
            if inside and rest == f"{ours}.weight":
                experts = [own[f"{block}.experts.{k}.{rest}"] for k in range(4)]
                tensors[f"{block}.switch_mlp.{theirs}.weight"] = torch.stack(experts)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "mlx"})
    return own


@pytest.mark.parametrize("model", list(_NAMES))
def test_floats_are_those_of_each_expert(model: str, tmp_path: Path) -> None:
    own = stacked(model, tmp_path)
    checkpoint = rl.open_checkpoint(tmp_path)
    assert checkpoint.tensors.keys() == own.keys()
    assert checkpoint.total_bytes == sum(tensor.nbytes for tensor in own.values())
    assert checkpoint.encodings == []
    read = read_tensors(checkpoint, own)
    assert all(torch.equal(read[name], tensor) for name, tensor in own.items())
    assert torch.equal(logits_of(rl.load(checkpoint)), logits_of(tiny_model(model)))


def test_what_does_not_fit_together_is_refused_by_name(tmp_path: Path) -> None:
    tensors = stacked("mixtral", tmp_path) and load_file(tmp_path / "model.safetensors")
    name = "model.layers.1.block_sparse_moe.switch_mlp.up_proj.weight"
    save_file(tensors | {name: tensors[name].flatten(0, 1)}, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"switch_mlp.up_proj.weight' has shape \(96, 32\), expected \(experts,"):
        rl.open_checkpoint(tmp_path)
    heads = tmp_path / "heads"
    shutil.copytree(BY_MLX_LM / "deepseek_v3", heads)
    tensors = load_file(heads / "model.safetensors")
    name = "model.layers.0.self_attn.embed_q.weight"
    save_file(tensors | {name: tensors[name][:3]}, heads / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"embed_q.weight' and .* have shapes \(3, 8, 8\) and \(4, 8, 8\)"):
        rl.open_checkpoint(heads)


def test_experts_in_an_unknown_layout_are_blamed_and_not_their_router(tmp_path: Path) -> None:
    stacked("qwen2_moe", tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    other = {name.replace("switch_mlp", "stacked_mlp"): tensor for name, tensor in tensors.items()}
    save_file(other, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"stacked_mlp\.\w+_proj\.weight' stands in an MoE block but is unknown"):
        rl.moe_layers(rl.open_checkpoint(tmp_path))
