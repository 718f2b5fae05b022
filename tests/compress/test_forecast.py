"""What a run is said to cost, against what it costs; and what is refused before it begins."""

import json
import shutil
from collections import namedtuple
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from resmoe_lab._core.errors import ResourceError, UsageError
from resmoe_lab._core.machine import anonymous_bytes
from resmoe_lab.centers import center_method
from resmoe_lab.checkpoint import Checkpoint, open_checkpoint
from resmoe_lab.compress import CompressionConfig, Forecast, compress_checkpoint, forecast_run
from resmoe_lab.compress import forecast as forecast_module
from resmoe_lab.compress import speed as speed_module
from resmoe_lab.compress.speed import Curve, measured_speed
from resmoe_lab.experts import Block, ExpertStack, LayerShape, family_of
from resmoe_lab.methods import METHODS
from resmoe_lab.store.layout import shape_blocks

_HOW = {"layers": [0, 1], "method": "resmoe-up", "keep": 0.25, "center": "wasserstein"}
_GB = 10**9


def _forecast(**changes: object) -> Forecast:
    facts = {"layers": (), "seconds": 1.0, "peak_rss_bytes": 0, "disk_bytes": 0, "output_bytes": 0, "workers": 1}
    return Forecast(**{**facts, "alternatives": (), **changes})  # type: ignore[arg-type]


def test_a_curve_goes_through_what_was_measured() -> None:
    assert Curve(side=0.25, seconds=2.0, exponent=3.0).whole() == 128.0
    assert Curve(side=1.0, seconds=2.0, exponent=3.0).whole() == 2.0


@pytest.mark.parametrize("power", [2.0, 2.5, 3.0])
def test_the_exponent_is_that_of_the_measurements(power: float) -> None:
    points = [(side, 7.0 * side**power) for side in (0.125, 0.25, 0.5)]
    assert speed_module._curve(points).whole() == pytest.approx(7.0)


def test_what_does_not_grow_with_the_layer_is_not_made_to() -> None:
    training = [(0.25, 3.0), (0.5, 3.3)]
    assert speed_module._curve(training).whole() == pytest.approx(3.63)
    # So short a time may be noise: it grows with the entries at least.
    assert speed_module._curve([(0.25, 0.3), (0.5, 0.33)]).whole() == pytest.approx(1.32)


def test_bytes_are_those_of_the_checkpoint(pico_checkpoint: Checkpoint, tmp_path: Path) -> None:
    forecast = forecast_run(pico_checkpoint, tmp_path / "out", CompressionConfig(**_HOW, export="dense"))
    assert not (tmp_path / "out").exists()
    assert forecast.output_bytes == pico_checkpoint.total_bytes
    assert forecast.facts()["layers"][1]["output_bytes"] == 3 * 4 * 12 * 8 * 4
    assert [layer.layer for layer in forecast.layers] == [0, 1]
    assert forecast.seconds > sum(layer.seconds for layer in forecast.layers) > 0


def test_forecast_and_measurement_stand_in_the_manifest(pico_checkpoint: Checkpoint, tmp_path: Path) -> None:
    manifest = compress_checkpoint(pico_checkpoint, tmp_path / "out", CompressionConfig(**_HOW))
    assert manifest["forecast"]["peak_rss_bytes"] == pytest.approx(manifest["peak_rss_bytes"], rel=0.5)
    assert manifest["forecast"]["seconds"] > 0
    assert {layer["layer"] for layer in manifest["forecast"]["layers"]} == {int(key) for key in manifest["layers"]}


def test_a_machine_is_measured_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    options = {"near_duplicates": False, "folder": tmp_path / "a" / "b"}
    shape, config = LayerShape(2, 16, (12, 12)), CompressionConfig(method="up", keep=0.25)
    first = measured_speed(shape, config, **options)
    monkeypatch.setattr(speed_module, "_measure", None)
    assert measured_speed(shape, config, **options) == first
    file = tmp_path / "resmoe_lab" / "speed.json"
    [(key, entry)] = json.loads(file.read_text()).items()
    damages = ([], {key: []}, {key: {**entry, "moving": "x"}}, {key: {**entry, "center": {"side": 1}}}, {key: None})
    for damage in damages:
        file.write_text(json.dumps(damage))
        with pytest.raises(TypeError, match="NoneType"):  # it is measured again
            measured_speed(shape, config, **options)
    file.write_text("[" * 100_000)
    with pytest.raises(TypeError, match="NoneType"):
        measured_speed(shape, config, **options)


def test_too_little_memory_is_refused_and_what_would_fit_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forecast_module, "available_bytes", lambda: 10 * _GB - anonymous_bytes())
    ways = (("--scheduler local:1", 9 * _GB), ("--mode direct", 11 * _GB), ("--center average", 5 * _GB))
    with pytest.raises(ResourceError, match=r"takes 18\.0 GB of memory, found 10\.0 GB: would fit: (.*)") as caught:
        _forecast(peak_rss_bytes=18 * _GB, workers=2, alternatives=ways).check(".")
    assert str(caught.value).endswith("--scheduler local:1 (9.0 GB); --center average (5.0 GB)")
    with pytest.raises(ResourceError, match="it needs a larger machine"):
        _forecast(peak_rss_bytes=18 * _GB).check(".")
    _forecast(peak_rss_bytes=9 * _GB).check(".")
    _forecast(peak_rss_bytes=18 * _GB, workers=0).check(".")  # the work is done on other machines


def test_too_little_disk_is_refused_before_anything_is_written(
    pico_checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(100, 90, 10))
    with pytest.raises(ResourceError, match=r"takes 0\.0 MB on the disk of .*, found 0\.0 MB: make room"):
        compress_checkpoint(pico_checkpoint, tmp_path / "out", CompressionConfig(**_HOW))
    assert not (tmp_path / "out").exists()


def test_what_is_there_already_needs_no_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(100, 90, 10))
    (tmp_path / "layer-00000.safetensors").write_bytes(bytes(90))
    (tmp_path / "somebody-elses").write_bytes(bytes(90))
    _forecast(output_bytes=100, disk_bytes=100).check(tmp_path)
    with pytest.raises(ResourceError):
        _forecast(output_bytes=101, disk_bytes=101).check(tmp_path)


def test_memory_is_that_of_the_largest_moment(pico_checkpoint: Checkpoint) -> None:
    """By hand, for Mixtral's shape: the stack is there, and four experts and one square of costs beside it."""
    needs = _needs(CompressionConfig(method="svd", keep=0.25), LayerShape(8, 14336, (4096,) * 3), 8 * 2 * 14336 * 12288)
    expert = 4 * 14336 * 12288
    rank = int(0.25 * 14336 * 12288 / (14336 + 12288))
    stored = 8 * 2 * rank * (14336 + 12288)
    expected = 8 * expert + stored + 4 * expert
    assert needs.memory(4.0) - anonymous_bytes() == pytest.approx(expected, abs=10**7)


@pytest.mark.parametrize("export", ["packed", "dense", "gguf", "compressed-tensors"])
def test_written_experts_count_where_they_are_made(export: str) -> None:
    """Dense ones take the compressed layer's place, others gather beside it, packed ones are what it holds."""
    shape = LayerShape(64, 4096, (1024, 1024))
    config = CompressionConfig(method="rtn", keep=0.25, export=export)
    expert = 4 * 4096 * 2048
    compressing = 64 * expert + speed_module.stored_bytes(config, shape) + 3 * expert
    gathered = 32 * expert
    expected = {"packed": compressing, "dense": (64 + 32) * expert}.get(export, compressing + gathered)
    assert _needs(config, shape, gathered).memory(1.0) - anonymous_bytes() == pytest.approx(expected, abs=10**7)


def _needs(config: CompressionConfig, shape: LayerShape, source_bytes: int = 0) -> forecast_module._Needs:
    return forecast_module._Needs(config, config.make_center(), shape, False, source_bytes)


def test_copies_are_told_from_unrelated_experts(pico_folder: Path) -> None:
    path = pico_folder / "model.safetensors"
    tensors = load_file(path)
    at = "model.layers.0.block_sparse_moe.experts"
    order = torch.randperm(12, generator=torch.Generator().manual_seed(0))
    tensors[f"{at}.1.w1.weight"] = tensors[f"{at}.0.w1.weight"][order].clone()
    save_file(tensors, path, metadata={"format": "pt"})
    checkpoint = open_checkpoint(pico_folder)
    family = family_of(checkpoint)
    assert forecast_module._near_duplicates(checkpoint, family, 0)
    assert not forecast_module._near_duplicates(checkpoint, family, 1)


def test_ways_out_change_the_result_last() -> None:
    needs = _needs(CompressionConfig(center_options={"solver": "pot"}), LayerShape(8, 512, (384, 384)))
    ways = [words for words, _ in needs.alternatives(3.0, 3)]
    assert ways[:2] == ["--scheduler local:2", "--scheduler local:1"]
    assert ways[2:] == ["--mode direct", "--mode direct --solver coordinate", "--center average"]


@pytest.mark.parametrize("method", ["svd", "svd-separate", "resmoe-svd", "resmoe-svd-pooled", "resmoe-svd-white"])
def test_a_layer_with_hardly_a_rank_is_measured(method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The layers of half its sides have no rank at all, and cannot be compressed."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(speed_module, "_FIRST", 1)
    shape = LayerShape(2, 8, (8, 8))
    half = speed_module._scaled(shape, 0.5)
    with pytest.raises(UsageError, match="no rank"):
        METHODS[method]().counts(half, 0.25)
    config = CompressionConfig(method=method, keep=0.25, center="average")
    speed = measured_speed(shape, config, near_duplicates=False, folder=tmp_path)
    assert speed.method.side == 1.0
    assert speed.method.whole() > 0


def _stack(shape: LayerShape) -> ExpertStack:
    weights = torch.randn(shape.sizes, generator=torch.Generator().manual_seed(0))
    return ExpertStack(weights, tuple(Block(*block) for block in shape_blocks(shape)), layer=0)


def test_a_layer_whose_half_is_smaller_than_its_headers_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    shape, config = LayerShape(64, 24, (32, 32, 32)), CompressionConfig(method="coded", bits=2)
    monkeypatch.setattr(speed_module, "_FIRST", 1 << 12)
    small = LayerShape(64, 3, (4, 4, 4))
    with pytest.raises(UsageError, match="does not fit"):
        config.make_method().compress(_stack(small), config.keep)
    speed = measured_speed(shape, config, near_duplicates=False, folder=tmp_path)
    assert speed.method.whole() > 0


def test_a_time_that_does_not_grow_is_not_yet_scaled_up(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = [1024 >> halving for halving in range(11)]
    clock = {size: 0.5 + 2e-5 * size**2 for size in sizes}
    monkeypatch.setattr(speed_module, "_seconds", lambda run: clock[run()])
    work = speed_module._Work(CompressionConfig(method="up"), center_method("none"), near_duplicates=False)
    monkeypatch.setattr(speed_module._Work, "layer", lambda _, shape: shape)
    curve = speed_module._climb(LayerShape(2, 1024, (1024,)), work, lambda shape: lambda: shape.intermediate_size)
    assert curve.whole() == pytest.approx(clock[1024], rel=0.3)


@pytest.mark.parametrize("method", ["up", "resmoe-up"])
def test_a_run_without_a_center_is_forecast_and_done(method: str, pico_checkpoint: Checkpoint, tmp_path: Path) -> None:
    options = {"layers": [0], "method": method, "keep": 0.5, "center": "none"}
    forecast = forecast_module.forecast_run(pico_checkpoint, tmp_path / "out", CompressionConfig(**options))
    assert forecast.layers[0].seconds > 0
    manifest = compress_checkpoint(pico_checkpoint, tmp_path / "out", CompressionConfig(**options))
    assert manifest["finished"]
