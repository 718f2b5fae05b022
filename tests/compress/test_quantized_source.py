"""A checkpoint that was published quantized is compressed as what it decodes to."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from resmoe_lab._core.errors import ResmoeWarning
from resmoe_lab.checkpoint import open_checkpoint
from resmoe_lab.compress import CompressionConfig, compress_checkpoint, forecast_run
from resmoe_lab.experts import load_stack
from resmoe_lab.runtime import load
from resmoe_lab.store.manifest import MANIFEST_FILE

_BLOCK = 8


def _fp8(folder: Path) -> dict[str, torch.Tensor]:
    """Round the projections of a checkpoint to FP8 in blocks, in place; return what they decode to."""
    tensors, expected = load_file(folder / "model.safetensors"), {}
    for name in [name for name in tensors if ".experts." in name or "_proj.weight" in name]:
        weight = tensors[name].float()
        rows, columns = (-(-side // _BLOCK) for side in weight.shape)
        padded = torch.zeros(rows * _BLOCK, columns * _BLOCK)
        padded[: weight.shape[0], : weight.shape[1]] = weight
        blocks = padded.view(rows, _BLOCK, columns, _BLOCK)
        scales = blocks.abs().amax(dim=(1, 3)).clamp(min=1e-12) / 448
        data = (blocks / scales[:, None, :, None]).reshape(padded.shape).to(torch.float8_e4m3fn)
        tensors[name] = data[: weight.shape[0], : weight.shape[1]].contiguous()
        tensors[f"{name}_scale_inv"] = scales
        wide = scales.repeat_interleave(_BLOCK, 0).repeat_interleave(_BLOCK, 1)
        expected[name] = tensors[name].float() * wide[: weight.shape[0], : weight.shape[1]]
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "fp8", "weight_block_size": [_BLOCK, _BLOCK], "fmt": "e4m3"}
    config["dtype"] = "bfloat16"
    (folder / "config.json").write_text(json.dumps(config))
    return expected


@pytest.mark.filterwarnings("ignore::resmoe_lab._core.errors.ResmoeWarning")
@pytest.mark.parametrize("export", ["packed", "dense"])
def test_eight_bits_become_what_they_decode_to(export: str, pico_folder: Path, tmp_path: Path) -> None:
    decoded, tokens = _fp8(pico_folder), torch.tensor([[1, 2, 3, 4, 5]])
    source, out = open_checkpoint(pico_folder), tmp_path / "out"
    original = load(source)
    attention = "model.layers.0.self_attn.q_proj.weight"
    assert torch.equal(original.get_parameter(attention), decoded[attention])
    manifest = compress_checkpoint(source, out, CompressionConfig(method="up", keep=1.0, layers="all", export=export))
    assert manifest["source_encodings"] == ["scaled"]
    assert manifest["original_bytes"] == sum(
        info.nbytes for name, info in source.tensors.items() if ".experts." in name
    )
    compressed = load(out)
    # Both are rounded to 16 bits once: experts by the format or the type of the export, the rest by the config.
    with torch.no_grad():
        expected, logits = original(tokens).logits, compressed(tokens).logits
    torch.testing.assert_close(logits, expected, rtol=0.05, atol=0.02 * float(expected.abs().max()))
    assert torch.equal(compressed.get_parameter(attention), decoded[attention].bfloat16().float())
    written = json.loads((out / "config.json").read_text()).get("quantization_config", {})
    assert written.get("quant_method") == ("resmoe" if export == "packed" else None)


def test_a_forecast_says_what_a_quantized_source_is_measured_against(pico_folder: Path, tmp_path: Path) -> None:
    _fp8(pico_folder)
    source = open_checkpoint(pico_folder)
    with pytest.warns(ResmoeWarning, match=r"bits a weight \(scaled\); errors are measured against.*are no gain"):
        forecast = forecast_run(source, tmp_path, CompressionConfig(method="up", keep=1.0))
    # Blocks of 8 x 8 weights have a scale of 32 bits; the last of a side is smaller.
    assert 8.5 <= forecast.source_bits < 11
    assert forecast.output_bits == pytest.approx(17)  # values of 16 bits, and a bit of the mask
    with pytest.warns(ResmoeWarning, match=r"errors are measured against what that decodes to$"):
        forecast = forecast_run(source, tmp_path, CompressionConfig(method="rtn", bits=4))
    assert forecast.output_bits < 8


@pytest.mark.filterwarnings("ignore::resmoe_lab._core.errors.ResmoeWarning")
def test_errors_are_measured_against_the_decoded_weights(pico_folder: Path, tmp_path: Path) -> None:
    _fp8(pico_folder)
    source = open_checkpoint(pico_folder)
    out = tmp_path / "out"
    compress_checkpoint(source, out, CompressionConfig(method="up", keep=0.5, layers="0", export="dense"))
    before = load_stack(source, layer=0).weights.double()
    after = load_stack(open_checkpoint(out), layer=0).weights.double()
    error = float((before - after).square().sum() / len(before))
    manifest = json.loads((out / MANIFEST_FILE).read_text())
    assert manifest["layers"]["0"]["approximation_error"] == pytest.approx(error, rel=1e-6)
