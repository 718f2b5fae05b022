"""DeepSeekMoE as Qwen2-MoE, against DeepSeekMoE's forward pass written out here."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.nn.functional import linear, scaled_dot_product_attention, silu
from transformers import AutoModelForCausalLM

from resmoe_lab._core.errors import CheckpointError, OutputError
from resmoe_lab.checkpoint import open_checkpoint
from resmoe_lab.checkpoint.conversion import deepseek_as_qwen2
from resmoe_lab.experts import family_of, moe_layers

Weights = dict[str, torch.Tensor]
CONFIG: dict[str, Any] = {
    "architectures": ["DeepseekForCausalLM"],
    "auto_map": {"AutoModelForCausalLM": "modeling_deepseek.DeepseekForCausalLM"},
    "model_type": "deepseek",
    "attention_bias": False,
    "first_k_dense_replace": 1,
    "hidden_act": "silu",
    "hidden_size": 8,
    "intermediate_size": 20,
    "max_position_embeddings": 64,
    "moe_intermediate_size": 12,
    "moe_layer_freq": 1,
    "n_routed_experts": 5,
    "n_shared_experts": 2,
    "norm_topk_prob": False,
    "num_attention_heads": 2,
    "num_experts_per_tok": 3,
    "num_hidden_layers": 3,
    "num_key_value_heads": 2,
    "rms_norm_eps": 1e-6,
    "rope_scaling": None,
    "rope_theta": 10000,
    "scoring_func": "softmax",
    "tie_word_embeddings": False,
    "torch_dtype": "float32",
    "vocab_size": 64,
}


def _weights(seed: int = 0) -> Weights:
    generator = torch.Generator().manual_seed(seed)
    p, shared = 8, 2 * 12

    def gated(prefix: str, size: int) -> dict[str, tuple[int, ...]]:
        up = {f"{prefix}.{name}_proj.weight": (size, p) for name in ("gate", "up")}
        return up | {f"{prefix}.down_proj.weight": (p, size)}

    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (64, p), "lm_head.weight": (64, p)}
    shapes["model.norm.weight"] = (p,)
    for layer in range(3):
        at = f"model.layers.{layer}"
        shapes |= {f"{at}.self_attn.{name}_proj.weight": (p, p) for name in "qkvo"}
        shapes |= {f"{at}.{name}_layernorm.weight": (p,) for name in ("input", "post_attention")}
        if layer == 0:
            shapes |= gated(f"{at}.mlp", 20)
            continue
        shapes |= gated(f"{at}.mlp.shared_experts", shared) | {f"{at}.mlp.gate.weight": (5, p)}
        for k in range(5):
            shapes |= gated(f"{at}.mlp.experts.{k}", 12)
    return {name: torch.randn(shape, generator=generator) * 0.4 for name, shape in shapes.items()}


def _reference(w: Weights, tokens: torch.Tensor) -> torch.Tensor:
    """DeepSeekMoE (arXiv 2401.06066, equations 9 to 11) in a decoder as Llama's."""
    x = w["model.embed_tokens.weight"][tokens]
    for layer in range(3):
        at = f"model.layers.{layer}"
        x = x + _attention(w, f"{at}.self_attn", _norm(x, w[f"{at}.input_layernorm.weight"]))
        u = _norm(x, w[f"{at}.post_attention_layernorm.weight"])
        x = x + (_gated(w, f"{at}.mlp", u) if layer == 0 else _experts(w, f"{at}.mlp", u))
    return linear(_norm(x, w["model.norm.weight"]), w["lm_head.weight"])


def _norm(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    return weight * x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-6)


def _gated(w: Weights, at: str, x: torch.Tensor) -> torch.Tensor:
    gate, up, down = (w[f"{at}.{name}_proj.weight"] for name in ("gate", "up", "down"))
    return linear(silu(linear(x, gate)) * linear(x, up), down)


def _experts(w: Weights, at: str, u: torch.Tensor) -> torch.Tensor:
    scores = linear(u, w[f"{at}.gate.weight"]).softmax(-1)
    value, index = scores.topk(3, dim=-1)
    weights = torch.zeros_like(scores).scatter(-1, index, value)
    routed = sum(weights[..., k, None] * _gated(w, f"{at}.experts.{k}", u) for k in range(5))
    return routed + _gated(w, f"{at}.shared_experts", u)


def _attention(w: Weights, at: str, x: torch.Tensor) -> torch.Tensor:
    length = x.shape[1]
    q, k, v = (linear(x, w[f"{at}.{name}_proj.weight"]).view(*x.shape[:2], 2, 4).transpose(1, 2) for name in "qkv")
    angles = torch.arange(length)[:, None] * 10000.0 ** (-torch.arange(0, 4, 2) / 4)
    cos, sin = (torch.cat([part, part], -1) for part in (angles.cos(), angles.sin()))

    def rotated(t: torch.Tensor) -> torch.Tensor:
        return t * cos + torch.cat([-t[..., 2:], t[..., :2]], -1) * sin

    mixed = scaled_dot_product_attention(rotated(q), rotated(k), v, is_causal=True)
    return linear(mixed.transpose(1, 2).flatten(2), w[f"{at}.o_proj.weight"])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A DeepSeekMoE checkpoint as the hub has it, code and all."""
    folder = tmp_path / "deepseek"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(CONFIG))
    (folder / "modeling_deepseek.py").write_text("raise SystemExit('this code was run')")
    (folder / "tokenizer.json").write_text("{}")
    save_file(_weights(), folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def test_the_conversion_computes_what_deepseek_computes(folder: Path, tmp_path: Path) -> None:
    out = deepseek_as_qwen2(open_checkpoint(folder), tmp_path / "qwen")
    model = AutoModelForCausalLM.from_pretrained(out).eval()
    tokens = torch.randint(0, 64, (2, 9), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        torch.testing.assert_close(model(tokens).logits, _reference(_weights(), tokens), rtol=1e-4, atol=1e-5)
    assert sorted(path.name for path in out.iterdir()) == ["config.json", "model.safetensors", "tokenizer.json"]


def test_both_have_the_same_experts(folder: Path, tmp_path: Path) -> None:
    before = open_checkpoint(folder)
    after = open_checkpoint(deepseek_as_qwen2(before, tmp_path / "qwen"))
    assert moe_layers(before) == moe_layers(after) == [1, 2]
    for layer in (1, 2):
        ours, theirs = family_of(after).load(after, layer), family_of(before).load(before, layer)
        assert torch.equal(ours.weights, theirs.weights)


def test_shards_stay_shards_and_doubling_loses_no_bit(folder: Path, tmp_path: Path) -> None:
    tensors = {name: tensor.bfloat16() for name, tensor in _weights().items()}
    names = sorted(tensors)
    halves = {"a.safetensors": names[:40], "b.safetensors": names[40:]}
    for file, part in halves.items():
        save_file({name: tensors[name] for name in part}, folder / file)
    weight_map = {name: file for file, part in halves.items() for name in part}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    (folder / "model.safetensors").unlink()
    out = deepseek_as_qwen2(open_checkpoint(folder), tmp_path / "qwen")
    stored = {name: tensor for file in halves for name, tensor in load_file(out / file).items()}
    assert set(stored) == set(open_checkpoint(out).tensors)
    for layer in (1, 2):
        at = f"model.layers.{layer}.mlp"
        doubled = tensors[f"{at}.shared_experts.down_proj.weight"].float() * 2
        assert torch.equal(stored[f"{at}.shared_expert.down_proj.weight"].float(), doubled)
        assert torch.equal(stored[f"{at}.shared_expert_gate.weight"], torch.zeros(1, 8, dtype=torch.bfloat16))
    assert torch.equal(stored["model.embed_tokens.weight"], tensors["model.embed_tokens.weight"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "mixtral"}, "expected 'deepseek'"),
        ({"scoring_func": "sigmoid"}, "scoring_func = 'sigmoid', expected 'softmax'"),
        ({"rope_scaling": {"type": "yarn"}}, "rope_scaling"),
        ({"n_shared_experts": None}, "lacks"),
    ],
)
def test_what_qwen_has_no_word_for_is_refused(
    changes: dict[str, Any], message: str, folder: Path, tmp_path: Path
) -> None:
    (folder / "config.json").write_text(json.dumps(CONFIG | changes))
    with pytest.raises(CheckpointError, match=message):
        deepseek_as_qwen2(open_checkpoint(folder), tmp_path / "qwen")
    assert not (tmp_path / "qwen").exists()


def test_a_folder_with_something_in_it_is_left_alone(folder: Path) -> None:
    with pytest.raises(OutputError, match="expected a new or empty folder"):
        deepseek_as_qwen2(open_checkpoint(folder), folder)
