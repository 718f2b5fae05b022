"""The layer loop: what it writes opens and computes, and it goes on where it stopped."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from resmoe_lab._core.errors import Cancelled, OutputError, UsageError, WeightError
from resmoe_lab._core.progress import Tick
from resmoe_lab.centers import find_center
from resmoe_lab.checkpoint import Checkpoint, open_checkpoint
from resmoe_lab.compress import CompressionConfig, compress_checkpoint
from resmoe_lab.experts import load_stack, moe_layers
from resmoe_lab.methods import METHODS, compress_layer

from ..experts import pico


def test_the_output_opens_and_holds_the_restored_experts(pico_checkpoint: Checkpoint, tmp_path: Path) -> None:
    out = tmp_path / "out"
    manifest = compress_checkpoint(
        pico_checkpoint, out, CompressionConfig(layers=[1], method="resmoe-up", keep=0.4, export="dense")
    )
    result = open_checkpoint(out)
    stack = load_stack(pico_checkpoint, layer=1)
    expected = compress_layer(stack, method="resmoe-up", keep=0.4, center=find_center(stack)).restore()
    assert torch.equal(load_stack(result, layer=1).weights, expected)
    assert torch.equal(load_stack(result, layer=0).weights, load_stack(pico_checkpoint, layer=0).weights)
    model = AutoModelForCausalLM.from_pretrained(out)
    logits = model(torch.arange(8)[None]).logits
    assert torch.isfinite(logits).all()
    assert not torch.allclose(logits, pico.mixtral()(torch.arange(8)[None]).logits)
    assert manifest == json.loads((out / "resmoe_manifest.json").read_text())
    error = float((stack.weights[:, :, :] - 0).square().sum())
    assert 0 < manifest["approximation_error"] < error


@pytest.mark.parametrize("model_type", sorted(pico.PICO))
def test_every_family_opens_and_computes_the_same_when_all_is_kept(model_type: str, tmp_path: Path) -> None:
    model = pico.PICO[model_type]()
    checkpoint = open_checkpoint(pico.save(model, tmp_path / "pico", shards=True))
    compress_checkpoint(
        checkpoint, tmp_path / "out", CompressionConfig(keep=1.0, export="dense", storage={"encoding": "fp32"})
    )
    restored = type(model).from_pretrained(tmp_path / "out").eval()
    tokens = torch.randint(0, 64, (2, 9), generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(pico.logits(restored, tokens), pico.logits(model, tokens), rtol=1e-3, atol=1e-4)
    changed = load_stack(open_checkpoint(tmp_path / "out"), layer=moe_layers(checkpoint)[0])
    assert not torch.equal(changed.weights, load_stack(checkpoint, layer=changed.layer).weights)  # neurons were moved


@pytest.mark.parametrize("method", [name for name in METHODS if not METHODS[name].needs_statistics])
def test_the_error_is_that_of_the_method(method: str, pico_checkpoint: Checkpoint, tmp_path: Path) -> None:
    manifest = compress_checkpoint(
        pico_checkpoint, tmp_path / "out", CompressionConfig(layers=[1], method=method, keep=0.5)
    )
    stack, used = load_stack(pico_checkpoint, layer=1), METHODS[method]()
    center = find_center(stack) if used.uses_center else None
    [expected] = used.errors(stack, [0.5], center)
    assert manifest["approximation_error"] == pytest.approx(expected, rel=1e-4)
    assert manifest["relative_error"] == pytest.approx(expected / stack.mean_squared_norm(), rel=1e-4)


def test_untouched_tensors_are_the_same_bytes(pico_checkpoint: Checkpoint, tmp_path: Path) -> None:
    compress_checkpoint(pico_checkpoint, tmp_path / "out", CompressionConfig(layers=[0], export="dense"))
    before = load_file(pico_checkpoint.folder / "model.safetensors")
    after = {
        name: tensor for file in (tmp_path / "out").glob("*.safetensors") for name, tensor in load_file(file).items()
    }
    assert set(before) == set(after)
    for name in before:
        if "layers.0.block_sparse_moe.experts" not in name:
            assert torch.equal(before[name], after[name]), name


def test_sixteen_bit_stays_sixteen_bit(tmp_path: Path) -> None:
    folder = pico.save(pico.mixtral().to(torch.bfloat16), tmp_path / "pico", shards=True)
    how = {"layers": [0, 1], "method": "svd", "keep": 0.5, "export": "dense"}
    compress_checkpoint(open_checkpoint(folder), tmp_path / "out", CompressionConfig(**how))
    result = open_checkpoint(tmp_path / "out")
    assert {info.dtype for info in result.tensors.values()} == {"BF16"}
    assert result.total_bytes == open_checkpoint(folder).total_bytes


def test_a_stopped_run_goes_on_from_the_first_unfinished_layer(pico_checkpoint: Checkpoint, tmp_path: Path) -> None:
    def stop(tick: Tick) -> None:
        if tick.done == 1:
            raise Cancelled("stopped")

    with pytest.raises(Cancelled):
        compress_checkpoint(pico_checkpoint, tmp_path / "out", CompressionConfig(layers=[0, 1]), progress=stop)
    first = tmp_path / "out" / "resmoe-layer-00000.safetensors"
    stamp = first.stat().st_mtime_ns
    assert not json.loads((tmp_path / "out" / "resmoe_manifest.json").read_text())["finished"]
    compress_checkpoint(pico_checkpoint, tmp_path / "out", CompressionConfig(layers=[0, 1]))
    compress_checkpoint(pico_checkpoint, tmp_path / "whole", CompressionConfig(layers=[0, 1]))
    assert first.stat().st_mtime_ns == stamp
    for path in (tmp_path / "whole").glob("*.safetensors*"):
        assert path.read_bytes() == (tmp_path / "out" / path.name).read_bytes()


def test_a_finished_run_does_nothing_again(pico_checkpoint: Checkpoint, tmp_path: Path) -> None:
    first = compress_checkpoint(pico_checkpoint, tmp_path / "out", CompressionConfig(layers=[0]))
    stamps = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()}
    assert compress_checkpoint(pico_checkpoint, tmp_path / "out", CompressionConfig(layers=[0])) == first
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()} == stamps


def test_other_settings_are_refused(pico_checkpoint: Checkpoint, tmp_path: Path) -> None:
    compress_checkpoint(pico_checkpoint, tmp_path / "out", CompressionConfig(layers=[0], keep=0.5))
    with pytest.raises(OutputError, match=r"made with keep 0\.5 \(now 0\.25\)"):
        compress_checkpoint(pico_checkpoint, tmp_path / "out", CompressionConfig(layers=[0], keep=0.25))


def test_a_changed_checkpoint_is_found(pico_checkpoint: Checkpoint, tmp_path: Path) -> None:
    compress_checkpoint(pico_checkpoint, tmp_path / "out", CompressionConfig(layers=[0]))
    path = pico_checkpoint.folder / "model.safetensors"
    tensors = load_file(path)
    tensors["lm_head.weight"][0, 0] += 1
    save_file(tensors, path, metadata={"format": "pt"})
    with pytest.raises(OutputError, match="made with checkpoint_hash"):
        compress_checkpoint(open_checkpoint(pico_checkpoint.folder), tmp_path / "out", CompressionConfig(layers=[0]))


def test_a_folder_with_something_else_is_left_alone(pico_checkpoint: Checkpoint, tmp_path: Path) -> None:
    (tmp_path / "precious.txt").write_text("mine")
    before = sorted(path.name for path in tmp_path.iterdir())
    with pytest.raises(OutputError, match="holds something else"):
        compress_checkpoint(pico_checkpoint, tmp_path, CompressionConfig(layers=[0]))
    assert sorted(path.name for path in tmp_path.iterdir()) == before
    with pytest.raises(OutputError, match="is a file"):
        compress_checkpoint(pico_checkpoint, tmp_path / "precious.txt", CompressionConfig(layers=[0]))


WRONG = [{"keep": 0.0}, {"keep": 1.5}, {"method": "nonsense"}, {"layers": []}, {"layers": [0, 7]}]
WRONG += [
    {"center": "ot-fusion"},
    {"center": "nonsense"},
    {"center_options": {"mode": "fast"}},
    {"center_options": {"solver": "x"}},
    {"center_options": {"nonsense": 1}},
    {"center": "wasserstein-usage"},
    {"method": "resmoe-svd-white"},
    {"seed": "x"},
]
WRONG += [{"export": "zip"}, {"storage": {"format": "rows"}}, {"storage": {"encoding": "fp8"}}]
WRONG += [{"storage": {"center": "fp8"}}, {"export": "dense", "storage": {"format": "bitmask"}}, {"nonsense": 1}]


@pytest.mark.parametrize("wrong", WRONG)
def test_bad_arguments_write_nothing(wrong: dict, pico_checkpoint: Checkpoint, tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        compress_checkpoint(pico_checkpoint, tmp_path / "out", CompressionConfig(**{"layers": [0], **wrong}))
    assert not (tmp_path / "out").exists()


def test_an_unknown_scheduler_writes_nothing(pico_checkpoint: Checkpoint, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="scheduler 'yarn'"):
        compress_checkpoint(pico_checkpoint, tmp_path / "out", CompressionConfig(layers=[0]), scheduler="yarn")
    assert not (tmp_path / "out").exists()


def test_single_settings_are_still_understood(pico_checkpoint: Checkpoint, tmp_path: Path) -> None:
    """As version 0.1 took them, and the manifest is that of the same settings in one object."""
    settings = {"layers": [0], "method": "resmoe-svd", "keep": 0.5, "options": {"solver": "alternating"}}
    with pytest.warns(DeprecationWarning, match="CompressionConfig"):
        old = compress_checkpoint(pico_checkpoint, tmp_path / "old", **settings, values="fp32", form="lowrank-joint")
    storage = {"encoding": "fp32", "format": "lowrank-joint"}
    config = CompressionConfig(
        layers=[0], method="resmoe-svd", keep=0.5, center_options={"solver": "alternating"}, storage=storage
    )
    assert compress_checkpoint(pico_checkpoint, tmp_path / "new", config)["settings"] == old["settings"]
    assert CompressionConfig(**{name: old["settings"][name] for name in config.model_dump()}) == config
    with pytest.raises(UsageError, match="beside a config"):
        compress_checkpoint(pico_checkpoint, tmp_path / "both", config, keep=0.5)


def test_a_bad_layer_leaves_the_good_ones(pico_folder: Path, tmp_path: Path) -> None:
    path = pico_folder / "model.safetensors"
    tensors = load_file(path)
    tensors["model.layers.1.block_sparse_moe.experts.0.w1.weight"][3, 3] = float("nan")
    save_file(tensors, path, metadata={"format": "pt"})
    checkpoint = open_checkpoint(pico_folder)
    with pytest.raises(WeightError, match="layer 1, expert 0"):
        compress_checkpoint(checkpoint, tmp_path / "out", CompressionConfig(layers=moe_layers(checkpoint)))
    left = ["resmoe-layer-00000.json", "resmoe-layer-00000.safetensors", "resmoe_manifest.json"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == left
