"""The map of a checkpoint: every byte has a place, in every family."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from resmoe_lab.analysis.model_map import PARTS, compressed_map, map_picture, merge_experts, model_map
from resmoe_lab.checkpoint import Checkpoint, open_checkpoint
from resmoe_lab.compress import CompressionConfig, compress_checkpoint
from resmoe_lab.experts import moe_layers
from resmoe_lab.methods import METHODS

from ..architectures import tiny_model


def test_rows_parts_and_experts_of_an_embedded_model(tiny: Checkpoint) -> None:
    table = model_map(tiny)
    assert list(dict.fromkeys(table["row"])) == ["embeddings", "0", "1", "2", "3", "head"]
    layer = table[table["row"] == "2"]
    assert list(dict.fromkeys(layer["part"])) == ["attention", "router", "experts", "norms"]
    experts = layer[layer["part"] == "experts"]
    assert experts["expert"].tolist() == list(range(8))
    assert set(experts["layer"]) == {2}
    sizes = [tiny.tensors[f"model.layers.2.block_sparse_moe.experts.3.w{part}.weight"] for part in (1, 2, 3)]
    expert = experts[experts["expert"] == 3].iloc[0]
    assert expert["bytes"] == sum(info.nbytes for info in sizes)
    assert expert["weights"] == sum(math.prod(info.shape) for info in sizes)
    assert expert["stored"] == "bf16"
    assert table["bytes"].sum() == tiny.total_bytes


@pytest.mark.parametrize("name", ["deepseek-tiny", "switch-tiny"])
def test_other_embedded_models_are_whole(name: str) -> None:
    checkpoint = open_checkpoint(name)
    table = model_map(checkpoint)
    assert table["bytes"].sum() == checkpoint.total_bytes
    experts = table[table["part"] == "experts"]
    assert sorted(experts["layer"].unique()) == moe_layers(checkpoint)
    if name == "switch-tiny":
        assert [row for row in dict.fromkeys(table["row"]) if row[:2] in ("en", "de")][:2] == ["encoder 0", "encoder 1"]


@pytest.mark.parametrize("model_type", ["qwen3_next", "gemma4_text", "granitemoehybrid", "nemotron_h", "deepseek_v3"])
def test_every_byte_has_a_place_in_layouts_of_other_kinds(model_type: str, tmp_path: Path) -> None:
    tiny_model(model_type).save_pretrained(tmp_path)
    checkpoint = open_checkpoint(tmp_path)
    table = model_map(checkpoint)
    assert table["bytes"].sum() == checkpoint.total_bytes
    assert set(table["part"]) <= set(PARTS)
    experts = table[table["part"] == "experts"]
    assert sorted(experts["layer"].unique()) == moe_layers(checkpoint)
    assert set(experts.groupby("layer")["expert"].count()) == {4}
    assert experts["bytes"].nunique() == 1


@pytest.mark.parametrize("method", ["up", "resmoe-up", "rtn", "resmoe-svd"])
def test_a_forecast_form_is_what_is_then_written(method: str, tiny: Checkpoint, tmp_path: Path) -> None:
    table = model_map(tiny)
    center = METHODS[method].uses_center
    forecast = compressed_map(table, tiny, method=method, keep=0.25, center=center)
    config = CompressionConfig(method=method, keep=0.25, layers="all")
    manifest = compress_checkpoint(tiny, tmp_path / "packed", config)
    expected = tiny.total_bytes - manifest["original_bytes"] + manifest["bytes"]
    # Shared out equally, an expert may lose a byte to rounding.
    assert forecast["bytes"].sum() == pytest.approx(expected, abs=8 * 4)
    assert ("center" in set(forecast["part"])) == center
    packed = model_map(open_checkpoint(tmp_path / "packed"))
    assert packed["bytes"].sum() == open_checkpoint(tmp_path / "packed").total_bytes
    sums, before = (form.groupby("part")["bytes"].sum() for form in (packed, table))
    assert sums["experts"] + sums.get("center", 0) == pytest.approx(manifest["bytes"], rel=0.01)
    assert ("center" in sums) == center
    assert sums["attention"] == before["attention"]


def test_a_picture_holds_every_byte_of_its_table(tiny: Checkpoint) -> None:
    table = model_map(tiny)
    merged = merge_experts(table)
    picture = map_picture("x", {"as stored": table, "merged": merged}, {1: 0.5})
    assert picture["errors"] == {"1": 0.5}
    for form in picture["forms"]:
        assert form["bytes"] == tiny.total_bytes
        assert sum(cell["bytes"] for row in form["rows"] for cell in row["cells"]) == tiny.total_bytes
        assert [row["layer"] for row in form["rows"]] == [None, 0, 1, 2, 3, None]
    experts = merged[merged["part"] == "experts"]
    assert experts["expert"].tolist() == [-1] * 4
    assert experts["weights"].sum() == table.loc[table["part"] == "experts", "weights"].sum()
    assert len(merged) == len(table) - 4 * 7
