"""Published checkpoints: their configs and key layouts at full size, in files of holes that take no room."""

import json
import struct
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from resmoe_lab._core.errors import CheckpointError
from resmoe_lab.checkpoint import open_checkpoint
from resmoe_lab.experts import family_of, moe_layers

Shapes = dict[str, tuple[int, ...]]
_WIDTH = {"BF16": 2, "F32": 4, "F8_E4M3": 1}


def _write(
    folder: Path, config: dict[str, Any], shapes: Shapes, dtype: str, dtypes: dict[str, str] | None = None
) -> None:
    """Write a config, and a safetensors file whose header is real and whose tensors are a hole."""
    (folder / "config.json").write_text(json.dumps(config))
    header, end = {}, 0
    for name, shape in shapes.items():
        kind = (dtypes or {}).get(name, dtype)
        size = _WIDTH[kind]
        for side in shape:
            size *= side
        header[name] = {"dtype": kind, "shape": shape, "data_offsets": [end, end + size]}
        end += size
    raw = json.dumps(header).encode()
    with (folder / "model.safetensors").open("wb") as stream:
        stream.write(struct.pack("<Q", len(raw)) + raw)
        stream.truncate(8 + len(raw) + end)


def _gated(prefix: str, hidden: int, neurons: int) -> Shapes:
    up = {f"{prefix}.{name}_proj.weight": (neurons, hidden) for name in ("gate", "up")}
    return up | {f"{prefix}.down_proj.weight": (hidden, neurons)}


def _many(at: str, count: int, *, hidden: int, neurons: int) -> Shapes:
    shapes = {f"{at}.gate.weight": (count, hidden)}
    for k in range(count):
        shapes |= _gated(f"{at}.experts.{k}", hidden, neurons)
    return shapes


def _mixtral(at: str) -> Shapes:
    shapes: Shapes = {f"{at}.gate.weight": (8, 4096)}
    for k in range(8):
        shapes |= {f"{at}.experts.{k}.{name}.weight": (14336, 4096) for name in ("w1", "w3")}
        shapes[f"{at}.experts.{k}.w2.weight"] = (4096, 14336)
    return shapes


def _switch(at: str) -> Shapes:
    shapes: Shapes = {f"{at}.router.classifier.weight": (8, 768)}
    for k in range(8):
        shapes |= {
            f"{at}.experts.expert_{k}.wi.weight": (3072, 768),
            f"{at}.experts.expert_{k}.wo.weight": (768, 3072),
        }
    return shapes


class Published(NamedTuple):
    """What a model card's config and file list say."""

    config: dict[str, Any]
    shapes: Shapes
    layers: list[int]
    sizes: tuple[int, int, int, int]
    dtype: str = "BF16"


_LAYER = "model.layers.{}.mlp"
_DEEPSEEK = {"hidden_size": 2048, "moe_intermediate_size": 1408, "n_routed_experts": 64, "n_shared_experts": 2}
_DEEPSEEK |= {"num_experts_per_tok": 6, "first_k_dense_replace": 1, "intermediate_size": 10944}
_DEEPSEEK_SHAPES = _gated(_LAYER.format(0), 2048, 10944) | _many(_LAYER.format(1), 64, hidden=2048, neurons=1408)
_DEEPSEEK_SHAPES |= _gated(f"{_LAYER.format(1)}.shared_experts", 2048, 2816)
_SWITCH = {"d_model": 768, "d_ff": 3072, "num_experts": 8, "num_layers": 12, "num_decoder_layers": 12}
_SWITCH_SHAPES = {"encoder.block.0.layer.1.mlp.wi.weight": (3072, 768)}
_SWITCH_SHAPES |= {"encoder.block.0.layer.1.mlp.wo.weight": (768, 3072)}
_SWITCH_SHAPES |= _switch("encoder.block.1.layer.1.mlp") | _switch("decoder.block.11.layer.2.mlp")
_QWEN2 = {"hidden_size": 2048, "moe_intermediate_size": 1408, "num_experts": 60, "num_experts_per_tok": 4}
_QWEN2 |= {"shared_expert_intermediate_size": 5632, "intermediate_size": 5632, "num_hidden_layers": 24}
_QWEN2_SHAPES = _many(_LAYER.format(0), 60, hidden=2048, neurons=1408)
_QWEN2_SHAPES |= _gated(f"{_LAYER.format(0)}.shared_expert", 2048, 5632)
_QWEN2_SHAPES |= {f"{_LAYER.format(0)}.shared_expert_gate.weight": (1, 2048)}
_GRANITE = "model.layers.0.block_sparse_moe"

PUBLISHED = {
    "mistralai/Mixtral-8x7B-v0.1": Published(
        {"model_type": "mixtral", "hidden_size": 4096, "intermediate_size": 14336, "num_local_experts": 8}
        | {"num_experts_per_tok": 2, "num_hidden_layers": 32},
        _mixtral("model.layers.31.block_sparse_moe"),
        [31],
        (8, 4096, 14336, 2),
    ),
    "google/switch-base-8": Published(
        {"model_type": "switch_transformers", "dense_act_fn": "relu"} | _SWITCH,
        _SWITCH_SHAPES,
        [1, 23],
        (8, 768, 3072, 1),
        "F32",
    ),
    "deepseek-ai/deepseek-moe-16b-base": Published(
        {"model_type": "deepseek", "num_hidden_layers": 28} | _DEEPSEEK,
        _DEEPSEEK_SHAPES,
        [1],
        (64, 2048, 1408, 6),
    ),
    "deepseek-ai/DeepSeek-V2-Lite": Published(
        {"model_type": "deepseek_v2", "num_hidden_layers": 27} | _DEEPSEEK,
        _DEEPSEEK_SHAPES,
        [1],
        (64, 2048, 1408, 6),
    ),
    "Qwen/Qwen1.5-MoE-A2.7B": Published(
        {"model_type": "qwen2_moe"} | _QWEN2,
        _QWEN2_SHAPES,
        [0],
        (60, 2048, 1408, 4),
    ),
    "Qwen/Qwen3-30B-A3B": Published(
        {"model_type": "qwen3_moe", "hidden_size": 2048, "moe_intermediate_size": 768, "num_experts": 128}
        | {"num_experts_per_tok": 8, "intermediate_size": 6144, "num_hidden_layers": 48},
        _many(_LAYER.format(47), 128, hidden=2048, neurons=768),
        [47],
        (128, 2048, 768, 8),
    ),
    "allenai/OLMoE-1B-7B-0924": Published(
        {"model_type": "olmoe", "hidden_size": 2048, "intermediate_size": 1024, "num_experts": 64}
        | {"num_experts_per_tok": 8, "num_hidden_layers": 16},
        _many(_LAYER.format(0), 64, hidden=2048, neurons=1024),
        [0],
        (64, 2048, 1024, 8),
    ),
    "ibm-granite/granite-3.0-1b-a400m-base": Published(
        {"model_type": "granitemoe", "hidden_size": 1024, "intermediate_size": 512, "num_local_experts": 32}
        | {"num_experts_per_tok": 8, "num_hidden_layers": 24},
        {
            f"{_GRANITE}.input_linear.weight": (32, 1024, 1024),
            f"{_GRANITE}.output_linear.weight": (32, 1024, 512),
            f"{_GRANITE}.router.layer.weight": (32, 1024),
        },
        [0],
        (32, 1024, 512, 8),
    ),
}


_EXPERTS = {name: shape for name, shape in _DEEPSEEK_SHAPES.items() if ".experts." in name}


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_layout_is_read_as_it_is(name: str, tmp_path: Path) -> None:
    config, shapes, layers, sizes, dtype = PUBLISHED[name]
    _write(tmp_path, config, shapes, dtype)
    checkpoint = open_checkpoint(tmp_path)
    family = family_of(checkpoint)
    shape = family.shape(checkpoint.config)
    assert (shape.num_experts, shape.hidden_size, shape.intermediate_size, shape.top_k) == sizes
    assert moe_layers(checkpoint) == layers
    count, hidden, neurons, _ = sizes
    matrices = 2 if dtype == "F32" else 3
    assert family.expert_bytes(checkpoint, layers[0]) == matrices * count * hidden * neurons * _WIDTH[dtype]
    assert checkpoint.tensors[family.router_key(layers[-1])].shape == (count, hidden)


def test_deepseek_v3_is_read_in_the_eight_bits_that_it_is_published_in(tmp_path: Path) -> None:
    config = PUBLISHED["deepseek-ai/DeepSeek-V2-Lite"].config | {"model_type": "deepseek_v3"}
    fp8 = {"quant_method": "fp8", "weight_block_size": [128, 128]}
    scales = {f"{name}_scale_inv": (-(-rows // 128), -(-columns // 128)) for name, (rows, columns) in _EXPERTS.items()}
    eight = dict.fromkeys(_EXPERTS, "F8_E4M3") | dict.fromkeys(scales, "F32")
    _write(tmp_path, config | {"quantization_config": fp8}, _DEEPSEEK_SHAPES | scales, "BF16", eight)
    checkpoint = open_checkpoint(tmp_path)
    assert moe_layers(checkpoint) == [1]
    assert checkpoint.encodings == ["scaled"]
    # 11 blocks of 128 are 1,408 neurons.
    assert family_of(checkpoint).expert_bytes(checkpoint, 1) == 3 * 64 * (2048 * 1408 + 4 * 16 * 11)


def test_eight_bits_without_scales_are_refused_by_name(tmp_path: Path) -> None:
    config = PUBLISHED["deepseek-ai/DeepSeek-V2-Lite"].config | {"model_type": "deepseek_v3"}
    eight = dict.fromkeys(_EXPERTS, "F8_E4M3")
    _write(tmp_path, config | {"quantization_config": {"quant_method": "fp8"}}, _DEEPSEEK_SHAPES, "BF16", eight)
    with pytest.raises(CheckpointError, match=r"is quantized \(fp8\): 'model.layers.1.mlp.experts.0.gate_proj.weight'"):
        family_of(open_checkpoint(tmp_path))
