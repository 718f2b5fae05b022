"""Every codec against the tool that writes its format, or against a loop over its published definition."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from resmoe_lab._core.errors import CheckpointError
from resmoe_lab.checkpoint import open_checkpoint
from resmoe_lab.checkpoint.reader import read_tensors

from ...fuzzing import damaged_json, reads_or_refuses

#: Written by bitsandbytes 0.50.2 and MLX 0.32.4, with what they decode them to (``*.expected``).
BY_OTHERS = Path(__file__).parents[2] / "data" / "quantized-by-others.safetensors"
E2M1 = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0]


def decoded(
    folder: Path, tensors: Mapping[str, torch.Tensor], quantization: dict[str, Any] | None = None, **config: Any
) -> dict[str, torch.Tensor]:
    """What the tensors of a checkpoint are read as, in float32."""
    folder.mkdir(exist_ok=True)
    config |= {"quantization_config": quantization} if quantization else {}
    (folder / "config.json").write_text(json.dumps(config))
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, folder / "model.safetensors")
    checkpoint = open_checkpoint(folder)
    assert "quantization_config" not in checkpoint.config
    return read_tensors(checkpoint, checkpoint.tensors, dtype=torch.float32)


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return 0.05 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def blocks_of(matrix: torch.Tensor, rows: int, columns: int) -> tuple[torch.Tensor, torch.Tensor]:
    """A matrix as eight-bit floats, and the scale of each block."""
    scales = torch.empty(-(-matrix.shape[0] // rows), -(-matrix.shape[1] // columns))
    data = torch.empty(matrix.shape, dtype=torch.float8_e4m3fn)
    for i in range(scales.shape[0]):
        for j in range(scales.shape[1]):
            part = slice(i * rows, (i + 1) * rows), slice(j * columns, (j + 1) * columns)
            scales[i, j] = matrix[part].abs().max() / 448
            data[part] = (matrix[part] / scales[i, j]).to(torch.float8_e4m3fn)
    return data, scales


@pytest.mark.parametrize("shape", [(256, 384), (200, 130), (3, 500), (128, 128)])
def test_blocks_of_fp8_may_be_ragged(shape: tuple[int, int], tmp_path: Path) -> None:
    data, scales = blocks_of(drawn(*shape), 128, 128)
    expected = torch.empty(shape)
    for i in range(shape[0]):
        for j in range(shape[1]):
            expected[i, j] = data[i, j].float() * scales[i // 128, j // 128]
    stored = {"a.weight": data, "a.weight_scale_inv": scales, "norm.weight": torch.ones(4)}
    tensors = decoded(tmp_path, stored, {"quant_method": "fp8", "weight_block_size": [128, 128]})
    assert set(tensors) == {"a.weight", "norm.weight"}
    assert torch.equal(tensors["a.weight"], expected)


def test_blocks_of_fp8_are_those_of_transformers(tmp_path: Path) -> None:
    from transformers.integrations.finegrained_fp8 import Fp8Dequantize

    data, scales = blocks_of(drawn(256, 384), 128, 128)
    expected = Fp8Dequantize(None)._dequantize_one(data, scales)
    assert torch.equal(decoded(tmp_path, {"a.weight": data, "a.weight_scale_inv": scales})["a.weight"], expected)


@pytest.mark.parametrize("scale_shape", [(), (1,), (6,), (6, 1)])
@pytest.mark.parametrize("kind", [torch.float8_e4m3fn, torch.float8_e5m2, torch.int8])
def test_rows_and_whole_tensors_have_one_scale(scale_shape: tuple[int, ...], kind: torch.dtype, tmp_path: Path) -> None:
    data = (1000 * drawn(6, 40)).to(kind)
    scale = drawn(*scale_shape).abs() + 0.01 if scale_shape else torch.tensor(0.02)
    stored = {"a.weight": data, "a.weight_scale": scale, "a.input_scale": torch.tensor(1.0)}
    expected = data.float() * (scale if scale.dim() != 1 else scale[:, None])
    tensors = decoded(tmp_path, stored)
    assert set(tensors) == {"a.weight"}
    assert torch.equal(tensors["a.weight"], expected)


def test_experts_that_are_fused_have_scales_of_their_own(tmp_path: Path) -> None:
    pairs = [blocks_of(drawn(64, 96, seed=k), 32, 32) for k in range(3)]
    data, scales = (torch.stack(parts) for parts in zip(*pairs, strict=True))
    stored = {"experts.gate_up_proj": data, "experts.gate_up_proj_scale_inv": scales}
    tensors = decoded(tmp_path, stored, {"quant_method": "fp8", "weight_block_size": [32, 32]})
    wide = scales.repeat_interleave(32, dim=1).repeat_interleave(32, dim=2)
    assert torch.equal(tensors["experts.gate_up_proj"], data.float() * wide)


def test_mxfp4_of_gpt_oss_is_that_of_transformers(tmp_path: Path) -> None:
    from transformers.integrations.mxfp4 import convert_moe_packed_tensors

    generator = torch.Generator().manual_seed(0)
    blocks = torch.randint(0, 256, (2, 24, 3, 16), generator=generator, dtype=torch.uint8)
    scales = torch.randint(100, 140, (2, 24, 3), generator=generator, dtype=torch.uint8)
    stored = {"experts.down_proj_blocks": blocks, "experts.down_proj_scales": scales}
    expected = convert_moe_packed_tensors(blocks, scales, dtype=torch.float32)
    tensors = decoded(tmp_path, stored, {"quant_method": "mxfp4"})
    assert torch.equal(tensors["experts.down_proj"], expected)


@pytest.mark.parametrize("exponent", [0, 1, 127, 254])
def test_scales_are_exact_to_the_ends_of_their_range(exponent: int, tmp_path: Path) -> None:
    data = torch.arange(256, dtype=torch.uint8)[None, :16] + 1
    scale = torch.full((1, 1), exponent, dtype=torch.uint8)
    [values] = decoded(tmp_path, {"a.weight_packed": data, "a.weight_scale": scale}).values()
    signed = E2M1 + [-x for x in E2M1]
    expected = [signed[code] * 2.0 ** (exponent - 127) for byte in data[0].tolist() for code in (byte & 15, byte >> 4)]
    assert values[0].tolist() == torch.tensor(expected, dtype=torch.float64).float().tolist()


def compressed_by_package(
    weight: torch.Tensor, kind: str, **arguments: Any
) -> tuple[Any, dict[str, torch.Tensor], dict]:
    """A matrix compressed by compressed-tensors: its compressor, what it stores, and the config that says so."""
    from compressed_tensors.compressors import BaseCompressor
    from compressed_tensors.quantization import QuantizationArgs, QuantizationScheme
    from compressed_tensors.quantization.utils import calculate_qparams

    args = QuantizationArgs(**arguments)
    scheme = QuantizationScheme(targets=["Linear"], weights=args)
    state = {"weight": weight}
    if kind == "nvfp4-pack-quantized":
        whole = torch.tensor([448.0 * 6.0]) / weight.abs().max()
        largest = weight.view(len(weight), -1, 16).abs().amax(-1)
        state |= {"weight_global_scale": whole, "weight_scale": (whole * largest / 6).to(torch.float8_e4m3fn).float()}
    else:
        size = arguments.get("group_size") or weight.shape[1]
        groups = weight.view(len(weight), -1, size)
        low, high = groups.amin(-1), groups.amax(-1)
        if arguments.get("strategy") == "tensor":
            low, high = weight.min(), weight.max()
        scale, zero = calculate_qparams(low, high, args)
        state |= {"weight_scale": scale, "weight_zero_point": zero}
        if args.symmetric:
            del state["weight_zero_point"]
    compressor = BaseCompressor.get_value_from_registry(kind)
    config = {"quant_method": "compressed-tensors", "config_groups": {"group_0": scheme.model_dump(mode="json")}}
    return compressor, compressor.compress(state, scheme), {"scheme": scheme, "config": config}


PACKED = [
    {"num_bits": bits, "type": "int", "symmetric": symmetric, **grouping}
    for bits in (4, 8, 3, 2)
    for symmetric in (True, False)
    for grouping in ({"strategy": "group", "group_size": 32}, {"strategy": "channel"})
]


@pytest.mark.parametrize("arguments", PACKED)
def test_packed_integers_are_those_of_compressed_tensors(arguments: dict[str, Any], tmp_path: Path) -> None:
    compressor, stored, said = compressed_by_package(drawn(40, 192), "pack-quantized", **arguments)
    expected = compressor.decompress(dict(stored), said["scheme"])["weight"]
    tensors = decoded(tmp_path, {f"a.{name}": tensor for name, tensor in stored.items()}, said["config"])
    assert set(tensors) == {"a.weight"}
    assert torch.equal(tensors["a.weight"], expected.float())


def test_scales_in_activation_order_go_by_their_index(tmp_path: Path) -> None:
    arguments = {"num_bits": 4, "type": "int", "symmetric": True, "strategy": "group", "group_size": 32}
    _, stored, said = compressed_by_package(drawn(8, 96), "pack-quantized", **arguments)
    order = torch.randperm(96, generator=torch.Generator().manual_seed(0)) % 3
    plain = decoded(tmp_path / "plain", {f"a.{name}": tensor for name, tensor in stored.items()}, said["config"])
    codes = plain["a.weight"] / stored["weight_scale"].repeat_interleave(32, dim=1)
    ordered = {f"a.{name}": tensor for name, tensor in stored.items()} | {"a.weight_g_idx": order.int()}
    tensors = decoded(tmp_path / "ordered", ordered, said["config"])
    assert torch.allclose(tensors["a.weight"], codes.round() * stored["weight_scale"][:, order], rtol=1e-6)


def test_nvfp4_is_that_of_compressed_tensors_and_of_modelopt(tmp_path: Path) -> None:
    arguments = {"num_bits": 4, "type": "float", "strategy": "tensor_group", "group_size": 16, "symmetric": True}
    arguments |= {"scale_dtype": torch.float8_e4m3fn}
    compressor, stored, said = compressed_by_package(drawn(24, 64), "nvfp4-pack-quantized", **arguments)
    expected = compressor.decompress(dict(stored), said["scheme"])["weight"].float()
    tensors = decoded(tmp_path / "ct", {f"a.{name}": tensor for name, tensor in stored.items()})
    assert torch.equal(tensors["a.weight"].bfloat16().float(), expected)  # what the package computes in
    modelopt = {"a.weight": stored["weight_packed"], "a.weight_scale": stored["weight_scale"]}
    modelopt |= {"a.weight_scale_2": 1 / stored["weight_global_scale"][0], "a.input_scale": torch.tensor(1.0)}
    tensors = decoded(tmp_path / "modelopt", modelopt)
    assert set(tensors) == {"a.weight"}
    torch.testing.assert_close(tensors["a.weight"].bfloat16().float(), expected, rtol=0.01, atol=0)


def words_of(codes: list[int], bits: int) -> list[int]:
    """Codes as 32-bit words, the lowest bits first, by whole numbers of any size."""
    whole = sum(code << (k * bits) for k, code in enumerate(codes))
    words = [(whole >> (32 * k)) & 0xFFFFFFFF for k in range(-(-len(codes) * bits // 32))]
    return [word - (1 << 32) if word >= 1 << 31 else word for word in words]


@pytest.mark.parametrize("version", ["gptq", "gptq_v2"])
@pytest.mark.parametrize("bits", [2, 3, 4, 8])
@pytest.mark.parametrize("ordered", [False, True])
def test_gptq_is_its_own_definition(bits: int, version: str, ordered: bool, tmp_path: Path) -> None:
    inputs, outputs, groups = 64, 32, 4
    generator = torch.Generator().manual_seed(bits)
    codes = torch.randint(0, 2**bits, (inputs, outputs), generator=generator)
    zeros = torch.randint(0, 2**bits, (groups, outputs), generator=generator)
    scales = drawn(groups, outputs).abs().half() + 0.01
    index = torch.arange(inputs) // (inputs // groups)
    index = index[torch.randperm(inputs, generator=generator)] if ordered else index
    kept = zeros if version == "gptq_v2" else (zeros - 1) % 2**bits
    stored = {
        "a.qweight": torch.tensor([words_of(codes[:, j].tolist(), bits) for j in range(outputs)], dtype=torch.int32).T,
        "a.qzeros": torch.tensor([words_of(row.tolist(), bits) for row in kept], dtype=torch.int32),
        "a.scales": scales,
        "a.g_idx": index.int(),
    }
    tensors = decoded(tmp_path, stored, {"quant_method": "gptq", "bits": bits, "checkpoint_format": version})
    expected = (codes - zeros[index]).float() * scales.float()[index]
    assert torch.equal(tensors["a.weight"], expected.T)


def test_awq_is_its_own_definition(tmp_path: Path) -> None:
    inputs, outputs, groups = 64, 24, 2
    generator = torch.Generator().manual_seed(0)
    codes = torch.randint(0, 16, (inputs, outputs), generator=generator)
    zeros = torch.randint(0, 16, (groups, outputs), generator=generator)
    scales = drawn(groups, outputs).abs().half() + 0.01
    order = [0, 2, 4, 6, 1, 3, 5, 7]  # the output that each four bits of a word hold

    def packed(matrix: torch.Tensor) -> torch.Tensor:
        rows = [[code for word in row.view(-1, 8) for code in word[order].tolist()] for row in matrix]
        return torch.tensor([words_of(row, 4) for row in rows], dtype=torch.int32)

    stored = {"a.qweight": packed(codes), "a.qzeros": packed(zeros), "a.scales": scales}
    tensors = decoded(tmp_path, stored, {"quant_method": "awq", "bits": 4, "group_size": 32})
    index = torch.arange(inputs) // 32
    assert torch.equal(tensors["a.weight"], ((codes - zeros[index]).float() * scales.float()[index]).T)


@pytest.mark.parametrize("name", ["nf4", "nf4_nested", "fp4", "int8", "mlx3", "mlx4", "mlx6", "mlx8"])
def test_what_other_tools_wrote_is_read_as_they_read_it(name: str, tmp_path: Path) -> None:
    stored = {key: value for key, value in load_file(BY_OTHERS).items() if key.startswith(f"{name}.")}
    expected = stored.pop(f"{name}.expected")
    tensors = decoded(tmp_path, stored, dtype="float32")
    assert set(tensors) == {f"{name}.weight"}
    # Their own loops round the product of a quantized scale, or a fused one, in another order.
    torch.testing.assert_close(tensors[f"{name}.weight"], expected, rtol=2e-6 if name != "int8" else 1e-3, atol=1e-7)


def test_parts_may_lie_in_different_files(tmp_path: Path) -> None:
    data, scales = blocks_of(drawn(64, 64), 32, 32)
    save_file({"a.weight": data}, tmp_path / "one.safetensors")
    save_file({"a.weight_scale_inv": scales}, tmp_path / "two.safetensors")
    index = {"weight_map": {"a.weight": "one.safetensors", "a.weight_scale_inv": "two.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    (tmp_path / "config.json").write_text(json.dumps({"quantization_config": {"weight_block_size": [32, 32]}}))
    checkpoint = open_checkpoint(tmp_path)
    [tensor] = read_tensors(checkpoint, ["a.weight"], dtype=torch.float32).values()
    assert torch.equal(tensor, data.float() * scales.repeat_interleave(32, 0).repeat_interleave(32, 1))
    assert checkpoint.files == [tmp_path / "one.safetensors", tmp_path / "two.safetensors"]
    assert checkpoint.total_bytes == 64 * 64 + 4 * 4
    assert checkpoint.encodings == ["scaled"]


def test_sixteen_bits_under_a_config_that_says_fp8_are_sixteen_bits(tmp_path: Path) -> None:
    weight = drawn(8, 8).bfloat16()
    tensors = decoded(tmp_path, {"a.weight": weight}, {"quant_method": "fp8", "weight_block_size": [128, 128]})
    assert torch.equal(tensors["a.weight"], weight.float())


FP8 = torch.zeros(200, 130, dtype=torch.float8_e4m3fn)
BAD = [
    ({"a.weight": FP8, "a.weight_scale_inv": torch.ones(3, 2)}, "has shape (3, 2), expected one scale"),
    ({"a.weight": FP8, "a.weight_scale_inv": torch.full((2, 2), float("nan"))}, "not finite"),
    (
        {"a.weight_packed": torch.zeros(1, 16, dtype=torch.uint8), "a.weight_scale": torch.full((1, 1), 255).byte()},
        "no number",
    ),
    (
        {
            "a.weight_packed": torch.zeros(4, 16, dtype=torch.int32),
            "a.weight_scale": torch.ones(4, 4),
            "a.weight_shape": torch.tensor([4, 100]),
        },
        "says it is (4, 100), expected (4, 128)",
    ),
    (
        {
            "a.qweight": torch.zeros(8, 16, dtype=torch.int32),
            "a.qzeros": torch.zeros(2, 2, dtype=torch.int32),
            "a.scales": torch.ones(2, 16),
            "a.g_idx": torch.full((64,), 2, dtype=torch.int32),
        },
        "names a group that is not there",
    ),
    (
        {"a.weight": torch.zeros(8, 1, dtype=torch.uint8), "a.weight.absmax": torch.ones(1),
         "a.weight.quant_map": torch.ones(16),
         "a.weight.quant_state.bitsandbytes__nf4": torch.tensor(list(b'{"shape": [4]}'), dtype=torch.uint8)},
        "is damaged",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("stored", "message"), BAD)
def test_parts_that_do_not_fit_together_are_refused_by_name(
    stored: dict[str, torch.Tensor], message: str, tmp_path: Path
) -> None:
    with pytest.raises(CheckpointError, match=r"'a\.") as refusal:
        decoded(tmp_path, stored, {"config_groups": {"x": {"weights": {"num_bits": 4, "group_size": 32}}}})
    assert message in str(refusal.value)


_WORDS = {"a.qweight": torch.zeros(16, 32, dtype=torch.int32), "a.qzeros": torch.zeros(4, 4, dtype=torch.int32)}
_WORDS |= {"a.scales": torch.ones(4, 32)}
_GROUPS = {"config_groups": {"x": {"weights": {"num_bits": 4, "group_size": 32, "block_structure": [64, 64]}}}}
_PACKED = {"a.weight_packed": torch.zeros(4, 16, dtype=torch.int32), "a.weight_scale": torch.ones(4, 4)}
_PACKED |= {"a.weight_shape": torch.tensor([4, 128])}
_AFFINE = {"a.weight": torch.zeros(4, 16, dtype=torch.int32).view(torch.uint32), "a.scales": torch.ones(4, 2)}
_AFFINE |= {"a.biases": torch.zeros(4, 2)}
SAID: dict[str, tuple[dict[str, torch.Tensor], dict[str, Any]]] = {
    "gptq": (_WORDS, {"quant_method": "gptq", "bits": 4, "group_size": 32, "checkpoint_format": "gptq"}),
    "awq": ({**_WORDS, "a.qweight": torch.zeros(128, 4, dtype=torch.int32)}, {"quant_method": "awq", "bits": 4}),
    "fp8": (
        {"a.weight": torch.zeros(64, 64, dtype=torch.float8_e4m3fn), "a.weight_scale_inv": torch.ones(2, 2)},
        {"quant_method": "fp8", "weight_block_size": [32, 32]},
    ),
    "groups": (_PACKED, {"quant_method": "compressed-tensors", **_GROUPS}),
    "mlx": (_AFFINE, {"group_size": 64, "bits": 4}),
}


@settings(derandomize=True, max_examples=80)
@pytest.mark.parametrize("name", SAID)
@given(data=st.data())
def test_other_values_in_what_is_said_of_an_encoding_are_told(
    name: str, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.getbasetemp() / f"said-{name}"
    stored, said = SAID[name]
    if not folder.is_dir():
        decoded(folder, stored, said)
    (folder / "config.json").write_text(json.dumps({"quantization_config": data.draw(damaged_json(said))}))

    def read() -> None:
        checkpoint = open_checkpoint(folder)
        read_tensors(checkpoint, checkpoint.tensors)

    reads_or_refuses(read, size=sum(path.stat().st_size for path in folder.iterdir()))


_SIDES = st.lists(st.sampled_from((0, 1, 2, 4, 31, 32, 64)), max_size=3).filter(
    lambda sides: math.prod(sides) < 1 << 14
)
_TYPES = st.sampled_from((torch.int32, torch.uint32, torch.float32, torch.float8_e4m3fn, torch.uint8, torch.int8))
#: Parts of every codec, of which some are drawn.
_PARTS = {name: tensor for stored, _ in SAID.values() for name, tensor in stored.items()}
_PARTS |= {"a.g_idx": torch.zeros(64, dtype=torch.int32), "a.weight_zero_point": torch.zeros(4, 1, dtype=torch.int8)}
_PARTS |= {"a.weight_scale_2": torch.ones(1), "a.weight_global_scale": torch.ones(1), "a.SCB": torch.ones(64)}
_PARTS |= {"a.weight.absmax": torch.ones(4), "a.weight.quant_map": torch.ones(16)}
_STATE = "a.weight.quant_state.bitsandbytes__nf4"
_PARTS |= {_STATE: torch.tensor(list(b'{"shape": [64, 64], "blocksize": 64}'), dtype=torch.uint8)}
_PARTS |= {"a_blocks": torch.zeros(2, 4, 2, 16, dtype=torch.uint8), "a_scales": torch.zeros(2, 4, 2, dtype=torch.uint8)}


@settings(derandomize=True, max_examples=200)
@given(data=st.data())
def test_parts_of_any_shape_are_read_or_refused(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    stored, said = SAID[data.draw(st.sampled_from(sorted(SAID)))]
    chosen = data.draw(st.sets(st.sampled_from(sorted(_PARTS)), max_size=4))
    tensors = {name: _PARTS[name] for name in chosen} | stored
    for name in data.draw(st.sets(st.sampled_from(sorted(tensors)), min_size=1, max_size=2)):
        if data.draw(st.booleans()):
            tensors[name] = torch.zeros(data.draw(_SIDES)).to(data.draw(_TYPES))
        else:
            del tensors[name]
    folder = tmp_path_factory.getbasetemp() / "any-shape"

    def read() -> None:
        with suppress(AssertionError):  # the helper expects that all is read
            decoded(folder, tensors, said)

    reads_or_refuses(read, size=1 << 16)


def test_a_stack_of_no_expert_is_refused(tmp_path: Path) -> None:
    stored = {"a.weight": torch.zeros(0, 0, 0, dtype=torch.float8_e4m3fn), "a.weight_scale_inv": torch.ones(())}
    with pytest.raises(CheckpointError, match=r"'a\.weight' does not fit together"):
        decoded(tmp_path, stored)
