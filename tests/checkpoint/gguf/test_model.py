"""A model in GGUF is the checkpoint that it was converted from: its tensors, its config, what it computes."""

from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file

from resmoe_lab._core.errors import CheckpointError, ResmoeWarning
from resmoe_lab.checkpoint import open_checkpoint
from resmoe_lab.checkpoint.gguf.architectures import ARCHITECTURES
from resmoe_lab.checkpoint.reader import read_tensors
from resmoe_lab.experts import family_of, load_stack
from resmoe_lab.runtime import load

from .converted import convert, converted_tensors, logits, make, saved

KINDS = list(ARCHITECTURES)


@pytest.mark.parametrize("kind", KINDS)
def test_a_converted_model_is_read_as_what_it_was(kind: str, tmp_path: Path) -> None:
    """Every tensor to the bit, every setting that matters, and the same logits."""
    model = make(kind)
    checkpoint = open_checkpoint(convert(kind, model, tmp_path / "model.gguf"))
    expected, found = saved(model), read_tensors(checkpoint, checkpoint.tensors)
    assert set(found) == set(expected)
    for name, tensor in expected.items():
        assert torch.equal(found[name], tensor.float()), name
        assert checkpoint.tensors[name].shape == tuple(tensor.shape)
    opened = load(checkpoint)
    torch.testing.assert_close(logits(opened), logits(model), rtol=1e-5, atol=1e-5)
    assert checkpoint.encodings == []
    assert checkpoint.total_bytes == sum(4 * tensor.numel() for tensor in expected.values())


@pytest.mark.parametrize("kind", KINDS)
def test_names_are_those_of_the_gguf_package(kind: str) -> None:
    """Its map from transformers' names, which is what converters use, is the inverse of ours."""
    architecture = ARCHITECTURES[kind]
    arch = next(arch for arch, name in gguf.MODEL_ARCH_NAMES.items() if name == architecture.name)
    names = gguf.get_tensor_name_map(arch, 3)
    for ours, theirs in architecture.all_blocks.items():
        if ours in ("ffn_norm", "attn_sinks.weight") and kind in ("gpt-oss", "glm4moe"):
            continue
        if theirs.endswith("e_score_correction_bias"):  # converters put a dot into its name
            theirs, ours = theirs.removesuffix("_bias"), ours.removesuffix(".bias")
        assert names.get_name(f"model.layers.2.{theirs}") == f"blk.2.{ours}"
    for ours, theirs in architecture.ends.items():
        assert names.get_name(theirs) == ours


@pytest.mark.parametrize("changes", [{"use_qk_norm": False, "attention_bias": False}, {"norm_topk_prob": False}])
def test_what_a_glm_has_or_not_is_seen(changes: dict[str, Any], tmp_path: Path) -> None:
    model = make("glm4moe", **changes)
    checkpoint = open_checkpoint(convert("glm4moe", model, tmp_path / "model.gguf"))
    assert {name: checkpoint.config[name] for name in changes} == changes
    torch.testing.assert_close(logits(load(checkpoint)), logits(model), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", ["deepseek2", "deepseek2 sigmoid"])
def test_scaled_rotary_angles_of_a_deepseek_scale_its_attention_too(kind: str, tmp_path: Path) -> None:
    scaled = {"rope_type": "yarn", "rope_theta": 1e4, "factor": 40.0, "original_max_position_embeddings": 8}
    scaled |= {"beta_fast": 32.0, "beta_slow": 1.0, "mscale": 0.707, "mscale_all_dim": 0.707}
    model = make(kind, rope_parameters=scaled)
    checkpoint = open_checkpoint(convert(kind, model, tmp_path / "model.gguf"))
    assert checkpoint.config["rope_parameters"]["mscale_all_dim"] == 0.707
    torch.testing.assert_close(logits(load(checkpoint)), logits(model), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("groups", [{}, {"n_group": 2, "topk_group": 1, "topk_method": "group_limited_greedy"}])
def test_a_deepseek_of_2024_has_keys_and_values_in_one(groups: dict[str, Any], tmp_path: Path) -> None:
    model = make("deepseek2", **groups)
    whole = {name: tensor.numpy() for name, tensor in saved(model).items() if name.endswith("kv_b_proj.weight")}

    def joined(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        others = {name: array for name, array in tensors.items() if "attn_k_b" not in name and "attn_v_b" not in name}
        return others | {f"blk.{name.split('.')[2]}.attn_kv_b.weight": array for name, array in whole.items()}

    def told(writer: gguf.GGUFWriter) -> None:
        for kind in ("key", "value"):
            del writer.kv_data[0][f"deepseek2.attention.{kind}_length_mla"]
            del writer.kv_data[0][f"deepseek2.attention.{kind}_length"]
        writer.add_key_length(24)
        writer.add_value_length(24)
        if groups:
            writer.add_expert_group_count(2)
            writer.add_expert_group_used_count(1)

    checkpoint = open_checkpoint(convert("deepseek2", model, tmp_path / "model.gguf", change=joined, told=told))
    assert set(checkpoint.tensors) == set(saved(model))
    torch.testing.assert_close(logits(load(checkpoint)), logits(model), rtol=1e-5, atol=1e-5)


def test_keys_and_values_that_do_not_match_are_refused(tmp_path: Path) -> None:
    def shorter(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return tensors | {"blk.1.attn_v_b.weight": tensors["blk.1.attn_v_b.weight"][:3]}

    path = convert("deepseek2", make("deepseek2"), tmp_path / "model.gguf", change=shorter)
    with pytest.raises(
        CheckpointError, match=r"attn_k_b\.weight, attn_v_b\.weight of shapes .4, 32, 16. and .3, 24, 32"
    ):
        open_checkpoint(path)


def test_layers_that_predict_further_tokens_are_left_out(tmp_path: Path) -> None:
    """llama.cpp's converter writes them behind the others, and counts them among them."""
    model = make("glm4moe", num_hidden_layers=2)

    def further(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        copies = {name.replace("blk.1.", "blk.2."): array for name, array in tensors.items() if "blk.1." in name}
        return tensors | copies | {"blk.2.nextn.enorm.weight": np.ones(64, np.float32)}

    def told(writer: gguf.GGUFWriter) -> None:
        writer.add_block_count(3)
        writer.add_nextn_predict_layers(1)

    path = convert("glm4moe", model, tmp_path / "model.gguf", change=further, told=told)
    with pytest.warns(ResmoeWarning, match=r"1 layer.s. that predict further tokens: left out"):
        checkpoint = open_checkpoint(path)
    assert checkpoint.config["num_hidden_layers"] == 2
    assert set(checkpoint.tensors) == set(saved(model))
    torch.testing.assert_close(logits(load(checkpoint)), logits(model), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", ["qwen2moe", "qwen3moe"])
def test_transformers_opens_the_file_as_the_same_model(kind: str, tmp_path: Path) -> None:
    """Where the experts' width is what transformers assumes: it does not read that (5.23)."""
    model = make(kind, moe_intermediate_size={"qwen2moe": 1408, "qwen3moe": 768}[kind])
    if kind == "qwen2moe":
        model = make(kind, moe_intermediate_size=1408, shared_expert_intermediate_size=5632)
    path = convert(kind, model, tmp_path / "model.gguf", types=lambda name: "Q8_0" if "exps" in name else "F16")
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, gguf_file=path.name, dtype=torch.float32)
    ours = load(path)
    for name, parameter in theirs.named_parameters():
        assert torch.equal(ours.get_parameter(name), parameter), name


@pytest.mark.parametrize("quantized", ["F16", "BF16", "Q8_0", "Q4_0", "Q5_1", "MXFP4"])
def test_experts_decode_to_what_the_gguf_package_decodes(quantized: str, tmp_path: Path) -> None:
    model = make("qwen3moe")
    path = convert("qwen3moe", model, tmp_path / "model.gguf", types=lambda name: quantized)
    checkpoint = open_checkpoint(path)
    stored = {tensor.name: tensor for tensor in gguf.GGUFReader(path).tensors}
    [down] = [tensor for name, tensor in stored.items() if name == "blk.1.ffn_down_exps.weight"]
    expected = torch.from_numpy(gguf.quants.dequantize(down.data, down.tensor_type).copy())
    for k in range(4):
        name = f"model.layers.1.mlp.experts.{k}.down_proj.weight"
        assert torch.equal(read_tensors(checkpoint, [name], dtype=torch.float32)[name], expected[k])
    stack = load_stack(checkpoint, layer=1)
    assert torch.equal(stack.block("w2"), expected.transpose(1, 2))
    sizes = [int(tensor.n_bytes) for name, tensor in stored.items() if name.startswith("blk.1.ffn") and "exps" in name]
    assert family_of(checkpoint).expert_bytes(checkpoint, 1) == sum(sizes)
    assert checkpoint.total_bytes == sum(int(tensor.n_bytes) for tensor in stored.values())
    assert checkpoint.encodings == ([] if quantized in ("F16", "BF16") else [f"gguf {quantized}"])


def test_single_experts_of_older_files_are_read(tmp_path: Path) -> None:
    model = make("llama")

    def split(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        single = {name: array for name, array in tensors.items() if "_exps." not in name}
        for name, array in tensors.items():
            if "_exps." in name:
                single |= {name.replace("_exps.", f".{k}."): array[k] for k in range(4)}
        return single

    old = load(convert("llama", model, tmp_path / "old.gguf", change=split))
    assert torch.equal(logits(old), logits(load(convert("llama", model, tmp_path / "new.gguf"))))


def test_gate_and_up_in_one_tensor_are_read(tmp_path: Path) -> None:
    model = make("qwen3moe")

    def join(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        joined = dict(tensors)
        for layer in range(2):
            parts = [joined.pop(f"blk.{layer}.ffn_{side}_exps.weight") for side in ("gate", "up")]
            joined[f"blk.{layer}.ffn_gate_up_exps.weight"] = np.concatenate(parts, axis=1)
        return joined

    path = convert("qwen3moe", model, tmp_path / "model.gguf", change=join, types=lambda name: "Q8_0")
    separate = convert("qwen3moe", model, tmp_path / "separate.gguf", types=lambda name: "Q8_0")
    ours, theirs = open_checkpoint(path), open_checkpoint(separate)
    assert torch.equal(load_stack(ours, layer=1).weights, load_stack(theirs, layer=1).weights)
    assert ours.total_bytes == theirs.total_bytes


def test_yarn_is_read(tmp_path: Path) -> None:
    yarn = {"rope_type": "yarn", "rope_theta": 5000.0, "factor": 4.0, "original_max_position_embeddings": 16}
    model = make("qwen3moe", rope_parameters={**yarn, "beta_fast": 16.0, "beta_slow": 2.0})
    opened = load(convert("qwen3moe", model, tmp_path / "model.gguf"))
    torch.testing.assert_close(logits(opened), logits(model), rtol=1e-5, atol=1e-5)


def test_a_config_beside_the_file_says_more(tmp_path: Path) -> None:
    model = make("qwen3moe", norm_topk_prob=False)
    model.config.save_pretrained(tmp_path)
    opened = open_checkpoint(convert("qwen3moe", model, tmp_path / "model.gguf"))
    torch.testing.assert_close(logits(load(opened)), logits(model), rtol=1e-5, atol=1e-5)
    other = make("qwen2moe")
    other.config.save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match=r"has model_type = 'qwen2_moe', expected 'qwen3_moe': it belongs to"):
        open_checkpoint(tmp_path)


def test_tied_embeddings_are_seen(tmp_path: Path) -> None:
    model = make("llama", tie_word_embeddings=True)

    def tie(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {name: array for name, array in tensors.items() if name != "output.weight"}

    opened = open_checkpoint(convert("llama", model, tmp_path / "model.gguf", change=tie))
    assert opened.config["tie_word_embeddings"] is True
    torch.testing.assert_close(logits(load(opened)), logits(model), rtol=1e-5, atol=1e-5)


def test_other_architectures_and_dense_models_are_named(tmp_path: Path) -> None:
    for arch, said in (("bert", r"architecture 'bert', expected one of llama, "), ("llama", "without experts")):
        writer = gguf.GGUFWriter(str(tmp_path / "other.gguf"), arch)
        writer.add_tensor("token_embd.weight", np.zeros((4, 32), np.float32))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        with pytest.raises(CheckpointError, match=said):
            open_checkpoint(tmp_path / "other.gguf")


def test_an_unknown_tensor_is_named(tmp_path: Path) -> None:
    def add(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {**tensors, "blk.1.attn_mystery.weight": np.zeros((2, 32), np.float32)}

    with pytest.raises(CheckpointError, match=r"holds tensor 'blk\.1\.attn_mystery\.weight', which is unknown in a"):
        open_checkpoint(convert("olmoe", make("olmoe"), tmp_path / "model.gguf", change=add))


def test_a_setting_that_is_not_understood_is_told(tmp_path: Path) -> None:
    told = {"told": lambda writer: writer.add_expert_weights_scale(2.5)}
    path = convert("qwen3moe", make("qwen3moe"), tmp_path / "model.gguf", **told)
    with pytest.warns(ResmoeWarning, match=r"sets qwen3moe\.expert_weights_scale = 2\.5, which is not understood"):
        open_checkpoint(path)


def test_what_a_dense_export_holds_is_what_was_decoded(tmp_path: Path) -> None:
    from resmoe_lab.compress import CompressionConfig, compress_checkpoint

    path = convert("llama", make("llama"), tmp_path / "model.gguf", types=lambda name: "F16")
    source = open_checkpoint(path)
    config = CompressionConfig(method="up", keep=1.0, export="dense", storage={"encoding": "fp32"})
    with pytest.warns(ResmoeWarning, match="holds no tokenizer that transformers can build"):
        manifest = compress_checkpoint(source, tmp_path / "out", config)
    assert manifest["original_bytes"] == sum(
        info.nbytes for name, info in source.tensors.items() if ".experts." in name
    )
    written: dict[str, torch.Tensor] = {}
    for file in (tmp_path / "out").glob("*.safetensors"):
        written |= load_file(file)
    expected = read_tensors(source, source.tensors)
    assert set(written) == set(expected)
    assert all(torch.equal(written[name], expected[name]) for name in expected)
    plain = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype=torch.float32)
    assert torch.equal(logits(plain), logits(load(source)))
    assert len(converted_tensors("llama", plain)) == len(gguf.GGUFReader(path).tensors)
