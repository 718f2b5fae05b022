"""The export for llama.cpp: what its own converter would write, rounded as its package rounds, and refused by name."""

from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
import transformers

import resmoe_lab as rl
from resmoe_lab._core.errors import OutputError, UsageError
from resmoe_lab._core.progress import Tick
from resmoe_lab.checkpoint import Checkpoint, open_checkpoint
from resmoe_lab.compress import CompressionConfig, compress_checkpoint, forecast_run
from resmoe_lab.experts import load_stack
from resmoe_lab.runtime import load

from ..checkpoint.gguf.converted import convert, converted_tensors, logits, make
from ..experts import pico

#: Every weight is kept in 32 bits: nothing but GGUF's own rounding is lost.
LOSSLESS: dict[str, Any] = {"method": "up", "keep": 1.0, "storage": {"encoding": "fp32"}, "export": "gguf"}
KINDS = ["llama", "qwen2moe", "qwen3moe", "olmoe", "granitemoe", "gpt-oss", "glm4moe", "minimax-m2"]
TEXTS = ["Ada had a red kite.", "  it's 1234 x\n\n y", "<s>hi</s> Ünïcödé"]


def source(kind: str, folder: Path, **changes: Any) -> tuple[transformers.PreTrainedModel, Checkpoint]:
    if kind == "olmoe":
        changes = {"num_key_value_heads": 4, **changes}
    model = make(kind, vocab_size=3072, **changes)
    model.save_pretrained(folder)
    rl.load_tokenizer("mixtral-tiny").save_pretrained(folder)
    return model, open_checkpoint(folder)


def stored(path: Path) -> dict[str, gguf.gguf_reader.ReaderTensor]:
    return {tensor.name: tensor for tensor in gguf.GGUFReader(path).tensors}


def restored(tensor: gguf.gguf_reader.ReaderTensor) -> np.ndarray:
    return gguf.quants.dequantize(tensor.data, tensor.tensor_type)


@pytest.mark.parametrize("kind", KINDS)
def test_the_file_is_what_the_converter_would_write(kind: str, tmp_path: Path) -> None:
    """Tensors, their order and types; settings by their values and types. One layer of two is compressed."""
    model, checkpoint = source(kind, tmp_path / "source")
    manifest = compress_checkpoint(checkpoint, tmp_path / "out", CompressionConfig(layers=[1], **LOSSLESS))
    found = stored(tmp_path / "out" / "model.gguf")
    expected = converted_tensors(kind, model)
    assert set(found) == set(expected)
    for name, array in expected.items():
        small = array.ndim < 2 or name.endswith(".bias") or "ffn_gate_inp" in name
        assert found[name].tensor_type.name == ("F32" if small else "F16"), name
        assert tuple(reversed(found[name].shape.tolist())) == array.shape
        rounded = array if small else array.astype(np.float16).astype(np.float32)
        assert np.array_equal(restored(found[name]).reshape(array.shape), rounded), name
    ours, theirs = (
        {name: (field.types, field.contents()) for name, field in gguf.GGUFReader(path).fields.items()}
        for path in (
            tmp_path / "out" / "model.gguf",
            convert(kind, model, tmp_path / "converted.gguf", types=lambda name: "F16"),
        )
    )
    for name, field in theirs.items():
        if name.startswith(f"{kind}."):
            assert ours[name] == field
    assert manifest["export"].startswith("gguf")
    sizes = [int(tensor.n_bytes) for name, tensor in found.items() if name.startswith("blk.1.ffn_") and "exps" in name]
    down_bias = sum(int(found[name].n_bytes) for name in found if name == "blk.1.ffn_down_exps.bias")
    assert manifest["bytes"] == sum(sizes) - down_bias
    assert manifest["forecast"]["layers"][0]["output_bytes"] == manifest["bytes"]
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        *("README.md", "config.json", "generation_config.json", "model.gguf", "resmoe_manifest.json"),
        *("tokenizer.json", "tokenizer_config.json"),
    }


@pytest.mark.parametrize("kind", KINDS)
def test_the_file_computes_what_the_source_does(kind: str, tmp_path: Path) -> None:
    """Where the source is in 16 bits, nothing is rounded at all."""
    model, _ = source(kind, tmp_path / "source")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(parameter.half().float())
    model.save_pretrained(tmp_path / "source")
    compress_checkpoint(open_checkpoint(tmp_path / "source"), tmp_path / "out", CompressionConfig(**LOSSLESS))
    alone = (tmp_path / "out" / "model.gguf").rename(tmp_path / "alone.gguf")
    torch.testing.assert_close(logits(load(alone)), logits(model), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", ["qwen2moe", "qwen3moe"])
def test_transformers_opens_the_file(kind: str, tmp_path: Path) -> None:
    """With the experts' width that transformers assumes: it does not read that (5.23)."""
    widths = {"qwen2moe": {"moe_intermediate_size": 1408, "shared_expert_intermediate_size": 5632}}
    _, checkpoint = source(kind, tmp_path / "source", **widths.get(kind, {"moe_intermediate_size": 768}))
    compress_checkpoint(checkpoint, tmp_path / "out", CompressionConfig(**LOSSLESS, gguf_type="q8_0"))
    options: dict[str, Any] = {"gguf_file": "model.gguf"}
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype=torch.float32, **options)
    assert torch.equal(logits(theirs), logits(load(tmp_path / "out")))
    tokenizer, original = transformers.AutoTokenizer.from_pretrained(tmp_path / "out", **options), rl.load_tokenizer
    for text in TEXTS:
        assert tokenizer(text)["input_ids"] == original("mixtral-tiny")(text)["input_ids"]


@pytest.mark.parametrize("kind", ["q8_0", "q4_0", "mxfp4"])
def test_experts_are_rounded_as_the_gguf_package_rounds(kind: str, tmp_path: Path) -> None:
    """To the byte; errors and bytes of the manifest are those of what the file holds. Layer 0 is not compressed."""
    model, checkpoint = source("qwen3moe", tmp_path / "source")
    config = CompressionConfig(layers=[1], **LOSSLESS, gguf_type=kind)
    manifest = compress_checkpoint(checkpoint, tmp_path / "out", config)
    found, expected = stored(tmp_path / "out" / "model.gguf"), converted_tensors("qwen3moe", model)
    for side in ("gate", "up", "down"):
        name, how = f"blk.1.ffn_{side}_exps.weight", gguf.GGMLQuantizationType[kind.upper()]
        assert found[name].tensor_type == how
        assert found[name].data.tobytes() == gguf.quants.quantize(expected[name], how).tobytes()
        assert found[f"blk.0.ffn_{side}_exps.weight"].tensor_type.name == "F16"
    before, after = load_stack(checkpoint, layer=1), load_stack(open_checkpoint(tmp_path / "out"), layer=1)
    error = float((before.weights.double() - after.weights.double()).square().sum() / 4)
    assert manifest["approximation_error"] == pytest.approx(error, rel=1e-6)
    assert manifest["bytes"] == sum(
        int(t.n_bytes) for name, t in found.items() if "blk.1.ffn" in name and "exps" in name
    )
    assert open_checkpoint(tmp_path / "out").encodings == [f"gguf {kind.upper()}"]


def test_a_stopped_run_goes_on_to_the_same_file(tmp_path: Path) -> None:
    _, checkpoint = source("llama", tmp_path / "source")
    config = CompressionConfig(method="resmoe-svd", keep=0.5, export="gguf", gguf_type="q8_0")
    compress_checkpoint(checkpoint, tmp_path / "whole", config)

    def stop(tick: Tick) -> None:
        if tick.done == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        compress_checkpoint(checkpoint, tmp_path / "stopped", config, progress=stop)
    assert [path.name for path in (tmp_path / "stopped").glob("*.safetensors")] == ["layer-00000.safetensors"]
    manifest = compress_checkpoint(checkpoint, tmp_path / "stopped", config)
    assert not list((tmp_path / "stopped").glob("*.safetensors"))
    assert (tmp_path / "whole/model.gguf").read_bytes() == (tmp_path / "stopped/model.gguf").read_bytes()
    assert compress_checkpoint(checkpoint, tmp_path / "stopped", config) == manifest


def test_a_damaged_file_is_told(tmp_path: Path) -> None:
    _, checkpoint = source("llama", tmp_path / "source")
    compress_checkpoint(checkpoint, tmp_path / "out", CompressionConfig(layers=[0], **LOSSLESS))
    path = tmp_path / "out" / "model.gguf"
    content = bytearray(path.read_bytes())
    content[-40] ^= 1
    path.write_bytes(content)
    with pytest.raises(rl.ResmoeError, match=r"model\.gguf is damaged \(hash"):
        load(tmp_path / "out")


def test_gguf_becomes_gguf_with_the_tokenizer_that_it_had(tmp_path: Path) -> None:
    model, checkpoint = source("qwen3moe", tmp_path / "source", tie_word_embeddings=True)
    compress_checkpoint(checkpoint, tmp_path / "first", CompressionConfig(layers=[0], **LOSSLESS))
    alone = (tmp_path / "first" / "model.gguf").rename(tmp_path / "alone.gguf")
    compress_checkpoint(open_checkpoint(alone), tmp_path / "second", CompressionConfig(layers=[0], **LOSSLESS))
    first, second = gguf.GGUFReader(alone), gguf.GGUFReader(tmp_path / "second" / "model.gguf")
    fields = [
        {name: field.contents() for name, field in reader.fields.items() if name != "general.name"}
        for reader in (first, second)
    ]
    assert fields[0] == fields[1]
    assert "output.weight" not in stored(alone)
    for one, other in zip(first.tensors, second.tensors, strict=True):
        assert one.name == other.name
        assert one.data.tobytes() == other.data.tobytes()
    tokenizer, original = rl.load_tokenizer(tmp_path / "second"), rl.load_tokenizer("mixtral-tiny")
    assert all(tokenizer(text)["input_ids"] == original(text)["input_ids"] for text in TEXTS)
    assert model.config.tie_word_embeddings


def test_a_gguf_source_is_packed_with_its_tokenizer(tmp_path: Path) -> None:
    """And opened by plain transformers, once this package is imported."""
    _, checkpoint = source("llama", tmp_path / "source")
    compress_checkpoint(checkpoint, tmp_path / "first", CompressionConfig(layers=[0], **LOSSLESS))
    alone = (tmp_path / "first" / "model.gguf").rename(tmp_path / "alone.gguf")
    config = CompressionConfig(method="up", keep=1.0, storage={"encoding": "fp32"})
    manifest = compress_checkpoint(open_checkpoint(alone), tmp_path / "packed", config)
    assert manifest["settings"]["checkpoint"] == str(alone)
    opened = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "packed", dtype=torch.float32)
    torch.testing.assert_close(logits(opened), logits(load(alone)), rtol=1e-4, atol=1e-4)
    tokenizer, original = transformers.AutoTokenizer.from_pretrained(tmp_path / "packed"), rl.load_tokenizer(alone)
    assert all(tokenizer(text)["input_ids"] == original(text)["input_ids"] for text in TEXTS)


def _refused(checkpoint: Checkpoint, out: Path, said: str, **settings: Any) -> None:
    with pytest.raises(UsageError, match=said) as caught:
        compress_checkpoint(checkpoint, out, CompressionConfig(layers=[1], **LOSSLESS | settings))
    assert "\n" not in str(caught.value)
    assert not out.exists()


@pytest.mark.parametrize(
    ("kind", "changes", "said"),
    [
        (
            "qwen3moe",
            {"norm_topk_prob": False},
            "norm_topk_prob = False, and llama.cpp computes qwen3moe models with True",
        ),
        ("qwen2moe", {"hidden_act": "gelu"}, "hidden_act = 'gelu', and llama.cpp computes qwen2moe models with 'silu'"),
        ("llama", {"sliding_window": 16}, "sliding_window = 16"),
        ("olmoe", {"num_key_value_heads": 2}, "num_key_value_heads = 2, and llama.cpp computes olmoe models with 4"),
        (
            "qwen3moe",
            {"rope_parameters": {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}},
            "'dynamic' with fac",
        ),
        ("qwen3moe", {"mlp_only_layers": [0]}, r"mlp_only_layers = \[0\]"),
    ],
)
def test_what_llama_cpp_computes_in_another_way_is_refused(
    kind: str, changes: dict[str, Any], said: str, tmp_path: Path
) -> None:
    _refused(source(kind, tmp_path / "source", **changes)[1], tmp_path / "out", said)


def test_what_has_no_place_in_gguf_is_refused(tmp_path: Path) -> None:
    switch = open_checkpoint(pico.save(pico.switch_transformers(), tmp_path / "switch"))
    _refused(
        switch, tmp_path / "out", "model_type 'switch_transformers' cannot be written as GGUF, expected one of mixtral"
    )
    small = open_checkpoint(pico.save(pico.mixtral(), tmp_path / "pico"))
    _refused(
        small, tmp_path / "out", "GGUF type Q4_0 stores 32 weights of a row together, found rows of 8", gguf_type="q4_0"
    )
    _refused(small, tmp_path / "out", "no tokenizer that can be opened .*; a GGUF file holds the model's tokenizer")


def test_settings_of_other_exports_are_refused() -> None:
    with pytest.raises(UsageError, match="GGUF type 'q8_0' belongs to a GGUF export, found export 'dense'"):
        CompressionConfig(export="dense", gguf_type="q8_0")
    with pytest.raises(UsageError, match="rest 'int4' belongs to a packed export, found export 'gguf'"):
        CompressionConfig(export="gguf", rest="int4")


def test_weights_that_sixteen_bits_cannot_hold_are_told(tmp_path: Path) -> None:
    model, _ = source("llama", tmp_path / "source")
    with torch.no_grad():
        model.lm_head.weight[0, 0] = 1e6
    model.save_pretrained(tmp_path / "source")
    config = CompressionConfig(layers=[0], **LOSSLESS)
    with pytest.raises(OutputError, match=r"a weight is as large as 1e\+06, which F16 cannot store"):
        compress_checkpoint(open_checkpoint(tmp_path / "source"), tmp_path / "out", config)


def test_a_forecast_counts_the_file_twice_while_it_is_written(tmp_path: Path) -> None:
    _, checkpoint = source("qwen3moe", tmp_path / "source")
    forecast = forecast_run(checkpoint, tmp_path / "out", CompressionConfig(**LOSSLESS, gguf_type="q4_0"))
    experts = sum(layer.output_bytes for layer in forecast.layers)
    assert experts == 2 * 4 * 3 * 64 * 32 // 32 * 18
    assert forecast.disk_bytes == forecast.output_bytes + experts
