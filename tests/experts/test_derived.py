"""Families that are derived, walked through transformers' own registry: a new release shows as a name that fails."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from resmoe_lab._core.errors import CheckpointError, UsageError
from resmoe_lab.checkpoint import open_checkpoint
from resmoe_lab.compress import CompressionConfig, compress_checkpoint, forecast
from resmoe_lab.compress.speed import Curve, Speed
from resmoe_lab.experts import FAMILIES, described_types, family_of, load_stack, model_class, moe_layers
from resmoe_lab.experts._derived import derive_family
from resmoe_lab.runtime import load

from ..architectures import config_content, logits_of, tiny_model

#: Experts that compute something else than what packed ones do; they can be exported densely.
CLAMPED = {"deepseek_v4", "minimax_m3_vl_text", "gpt_oss", "hy_v4", "inkling2_text"}
#: Architectures with experts that cannot be derived, and why.
GAPS = {"gpt_oss": "biases"}
DERIVED = [name for name in described_types() if name not in GAPS]
BY_HAND = sorted({name for family in FAMILIES.names() for name in FAMILIES[family].model_types} & set(DERIVED))


@pytest.mark.parametrize("name", sorted(GAPS))
def test_what_cannot_be_derived_says_why(name: str) -> None:
    with pytest.raises(CheckpointError, match=GAPS[name]):
        derive_family(config_content(name))


@pytest.mark.parametrize("name", BY_HAND)
def test_a_derived_family_is_the_one_written_by_hand(name: str) -> None:
    config = config_content(name)
    derived = derive_family(config)(config)
    by_hand = next(FAMILIES[family] for family in FAMILIES.names() if name in FAMILIES[family].model_types)(config)
    for attribute in ("block", "parts", "router", "module", "module_parts", "module_router"):
        assert getattr(derived, attribute) == getattr(by_hand, attribute), attribute
    assert derived.shape(config) == by_hand.shape(config)


@pytest.fixture
def no_forecast(monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine is not timed for each of fifty shapes."""
    speed = Speed(Curve(1.0, 1.0, 2.0), Curve(1.0, 1.0, 2.0), 3.0, 1e-9)
    monkeypatch.setattr(forecast, "measured_speed", lambda *_, **__: speed)


@pytest.mark.usefixtures("no_forecast")
@pytest.mark.parametrize("name", DERIVED)
def test_every_architecture_is_compressed_and_computes_what_it_stores(name: str, tmp_path: Path) -> None:
    model = tiny_model(name)
    expected = logits_of(model)
    model.save_pretrained(tmp_path / "source")
    checkpoint = open_checkpoint(tmp_path / "source")
    family, layers = family_of(checkpoint), moe_layers(checkpoint)
    stack = load_stack(checkpoint, layer=layers[0])
    assert torch.equal(stack.weights, family.from_model(model, layers[0]).weights)
    settings = {"method": "up", "keep": 1.0, "layers": "all", "storage": {"encoding": "fp32"}}
    dense = CompressionConfig(**settings, export="dense")
    compress_checkpoint(checkpoint, tmp_path / "dense", dense)
    plain, info = model_class(model.config).from_pretrained(
        tmp_path / "dense", dtype=torch.float32, output_loading_info=True
    )
    assert not any(info[f"{problem}_keys"] for problem in ("missing", "unexpected", "mismatched"))
    assert torch.equal(logits_of(plain.eval()), expected)
    packed = CompressionConfig(**settings)
    if name in CLAMPED:
        with pytest.raises(UsageError, match="computes something else"):
            compress_checkpoint(checkpoint, tmp_path / "packed", packed)
        assert not (tmp_path / "packed").exists()
        return
    compress_checkpoint(checkpoint, tmp_path / "packed", packed)
    logits = logits_of(load(tmp_path / "packed"))
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=2e-5 * float(expected.abs().max()))


@pytest.mark.parametrize("name", ["qwen3_next", "minimax_m2", "gemma4_text", "nemotron_h", "aria_text"])
def test_the_order_of_neurons_never_changes_a_logit(name: str) -> None:
    model = tiny_model(name)
    expected, config = logits_of(model), config_content(name)
    family = derive_family(config)(config)
    generator = torch.Generator().manual_seed(0)
    for layer in family.derived.layers:
        stack = family.from_model(model, layer)
        orders = [torch.randperm(stack.weights.shape[1], generator=generator) for _ in range(stack.num_experts)]
        shuffled = torch.stack([matrix[order] for matrix, order in zip(stack.weights, orders, strict=True)])
        family.to_model(model, stack.with_weights(shuffled))
    torch.testing.assert_close(logits_of(model), expected, rtol=1e-4, atol=2e-5 * float(expected.abs().max()))


def test_experts_that_lie_fused_in_the_files_are_found(tmp_path: Path) -> None:
    model = tiny_model("mixtral")
    model.save_pretrained(tmp_path, save_original_format=False)
    checkpoint = open_checkpoint(tmp_path)
    assert "model.layers.0.mlp.experts.gate_up_proj" in checkpoint.tensors
    family = family_of(checkpoint)
    assert moe_layers(checkpoint) == [0, 1, 2]
    assert torch.equal(load_stack(checkpoint, layer=1).weights, family.from_model(model, 1).weights)
    assert family.router_key(1) in checkpoint.tensors


def test_a_model_without_experts_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="LlamaForCausalLM has no fused experts"):
        derive_family({"model_type": "llama", "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2})
    with pytest.raises(CheckpointError, match="'unheard_of' is unknown to the installed transformers"):
        derive_family({"model_type": "unheard_of"})
