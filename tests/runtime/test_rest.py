"""Attention, embeddings and shared experts as integers in groups."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from torch import nn

import resmoe_lab as rl
from resmoe_lab._core.errors import CheckpointError, UsageError
from resmoe_lab.checkpoint import Checkpoint, open_checkpoint
from resmoe_lab.compress import CompressionConfig, compress_checkpoint, forecast_run
from resmoe_lab.runtime.rest import PackedEmbedding, PackedLinear, packed_rest, rest_modules, saved_bytes

from ..experts import pico

TOKENS = torch.tensor([[1, 5, 9, 30, 20, 7, 12, 40]])
CONFIG = CompressionConfig(method="up", keep=1.0, layers="0", storage={"encoding": "fp32"}, rest="int8")


@pytest.fixture(scope="module")
def packed(tiny: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("rest") / "out"
    compress_checkpoint(tiny, out, CONFIG)
    return out


def test_routers_and_norms_stay(tiny: Checkpoint) -> None:
    modules = rest_modules(tiny)
    assert set(modules) == {
        "model.embed_tokens",
        "lm_head",
        *(f"model.layers.{layer}.self_attn.{name}_proj" for layer in range(4) for name in "qkvo"),
    }
    assert modules["lm_head"] == (3072, 128)


@pytest.mark.parametrize("model_type", ["qwen2_moe", "deepseek_v2", "deepseek_v3", "olmoe", "switch_transformers"])
def test_every_family_opens_with_its_rest_rounded(model_type: str, tmp_path: Path) -> None:
    """The logits are those of the original with the same weights rounded by hand."""
    model = pico.PICO[model_type]()
    checkpoint = open_checkpoint(pico.save(model, tmp_path / "pico"))
    layer = rl.moe_layers(checkpoint)[0]
    config = CompressionConfig(**{**CONFIG.model_dump(), "layers": (layer,)})
    compress_checkpoint(checkpoint, tmp_path / "out", config)
    names = rest_modules(checkpoint)
    assert names
    assert not any("_a_proj" in name or name.endswith((".gate", ".router.classifier")) for name in names)
    by_hand = rl.load(checkpoint)
    for name in names:
        module = by_hand.get_submodule(name)
        kind = PackedLinear(tuple(module.weight.shape), rl_encoding(), None)
        for part, value in packed_rest(name, module.weight, "int8").items():
            kind.get_buffer(part.rpartition(".")[2]).copy_(value)
        module.weight.copy_(kind.read(slice(None), torch.float32))
    opened = rl.load(tmp_path / "out")
    tokens = TOKENS.clamp(max=63)
    torch.testing.assert_close(pico.logits(opened, tokens), pico.logits(by_hand, tokens), rtol=1e-3, atol=1e-4)


def rl_encoding() -> object:
    from resmoe_lab.runtime.rest import rest_encoding

    return rest_encoding("int8")


def test_the_files_are_smaller_by_what_was_forecast(packed: Path, tiny: Checkpoint, tmp_path: Path) -> None:
    plain = CompressionConfig(**{**CONFIG.model_dump(), "rest": "16"})
    compress_checkpoint(tiny, tmp_path / "plain", plain)
    saved = open_checkpoint(tmp_path / "plain").total_bytes - open_checkpoint(packed).total_bytes
    assert saved == saved_bytes(tiny, "int8") > 900_000
    assert forecast_run(tiny, tmp_path / "x", CONFIG).output_bytes == open_checkpoint(packed).total_bytes
    with safe_open(packed / "resmoe-rest-00000.safetensors", "pt") as file:
        assert "lm_head.weight" not in file.keys()  # noqa: SIM118
        assert "model.layers.0.self_attn.q_proj.data" in file.keys()  # noqa: SIM118


def test_it_runs_in_plain_transformers_saves_and_opens_again(packed: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(packed, dtype=torch.float32)
    assert model.dtype == torch.float32
    kinds = {type(module) for module in model.modules()}
    assert {PackedLinear, PackedEmbedding} <= kinds
    assert nn.Embedding not in kinds
    model.save_pretrained(tmp_path / "again")
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "again", dtype=torch.float32)
    assert torch.equal(model(TOKENS).logits, again(TOKENS).logits)
    half = rl.load(packed, dtype=torch.bfloat16)
    assert half(TOKENS).logits.dtype == torch.bfloat16


def test_tied_embeddings_stay(tmp_path: Path) -> None:
    model = pico._make("MixtralForCausalLM", 0, num_local_experts=4, tie_word_embeddings=True)
    modules = rest_modules(open_checkpoint(pico.save(model, tmp_path / "tied")))
    assert modules
    assert not any("embed" in name or "head" in name for name in modules)


@pytest.mark.parametrize("damage", [{"shape": [1, 2]}, {"bits": 17}, {"shape": "x"}, {"group": 0}])
def test_a_damaged_description_is_refused(packed: Path, tmp_path: Path, damage: dict) -> None:
    import shutil

    folder = shutil.copytree(packed, tmp_path / "damaged")
    config = json.loads((folder / "config.json").read_text())
    config["quantization_config"]["rest"]["lm_head"] |= damage
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match="the specification of lm_head is damaged"):
        rl.load(folder)


def test_a_dense_export_has_no_rounded_rest() -> None:
    with pytest.raises(UsageError, match="rest 'int4' belongs to a packed export"):
        CompressionConfig(export="dense", rest="int4")
