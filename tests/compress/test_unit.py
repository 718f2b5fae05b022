"""Units are whole, checked, and made again only when they have to be."""

import json
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from resmoe_lab._core.errors import OutputError
from resmoe_lab.checkpoint import Checkpoint
from resmoe_lab.checkpoint.writer import digest
from resmoe_lab.compress import CompressionConfig
from resmoe_lab.compress.unit import Unit, compress_unit

from ..experts import pico
from ..fuzzing import damaged_json, reads_or_refuses

_CONFIG = CompressionConfig(method="resmoe-up", keep=0.4)


@pytest.fixture(params=["dense", "packed"])
def unit(pico_checkpoint: Checkpoint, tmp_path: Path, request: pytest.FixtureRequest) -> Unit:
    (tmp_path / "out").mkdir()
    made = Unit(pico_checkpoint.source, tmp_path / "out", 1, _CONFIG.model_copy(update={"export": request.param}))
    compress_unit(made)
    return made


def test_a_finished_unit_is_not_made_again(unit: Unit) -> None:
    stamp = unit.file.stat().st_mtime_ns
    compress_unit(unit)
    assert unit.file.stat().st_mtime_ns == stamp


def test_the_row_says_what_went_in(unit: Unit, pico_checkpoint: Checkpoint) -> None:
    row = unit.row()
    assert row is not None
    stored = load_file(pico_checkpoint.folder / "model.safetensors")
    experts = {name: tensor for name, tensor in stored.items() if "layers.1." in name and ".experts." in name}
    assert row["source_hash"] == digest(experts)
    assert row["seconds"] > 0
    assert row["peak_rss_bytes"] > 10**7


def test_tensors_without_a_description_do_not_count(unit: Unit) -> None:
    """What a power cut between the two leaves."""
    unit.description.unlink()
    assert unit.row() is None
    compress_unit(unit)
    assert unit.row() is not None


@pytest.mark.parametrize("where", [0.5, 1.0])
def test_a_flipped_bit_is_found(unit: Unit, where: float) -> None:
    content = bytearray(unit.file.read_bytes())
    content[int(where * (len(content) - 1))] ^= 4
    unit.file.write_bytes(content)
    with pytest.raises(OutputError, match=r"is damaged.*remove .*layer-00001\.json, and run again"):
        unit.row()


def test_a_missing_truncated_or_foreign_file_is_found(unit: Unit) -> None:
    content = unit.file.read_bytes()
    unit.file.write_bytes(content[:-8])
    with pytest.raises(OutputError, match=r"layer 1 in .* is damaged"):
        unit.row()
    save_file({"x": torch.zeros(1)}, unit.file)
    with pytest.raises(OutputError, match="is damaged"):
        unit.row()
    unit.file.unlink()
    with pytest.raises(OutputError, match="is missing"):
        unit.row()


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"fingerprint": 1, "digest": 2}'])
def test_a_damaged_description_is_found(unit: Unit, content: str) -> None:
    unit.description.write_text(content)
    with pytest.raises(OutputError, match=r"layer 1 in .* is damaged"):
        unit.row()


def test_other_settings_are_found(unit: Unit) -> None:
    other = Unit(unit.source, unit.out, 1, unit.config.model_copy(update={"keep": 0.5}))
    with pytest.raises(OutputError, match="was made with other settings"):
        other.row()
    assert json.loads(unit.description.read_text())["fingerprint"] == unit.fingerprint


@pytest.fixture(scope="module")
def described(tmp_path_factory: pytest.TempPathFactory) -> Unit:
    folder = tmp_path_factory.mktemp("described")
    source = pico.save(pico.mixtral(), folder / "pico")
    made = Unit(str(source), folder, 1, _CONFIG)
    compress_unit(made)
    _figures(made)  # imports take their room only once
    return made


@settings(derandomize=True, max_examples=80)
@given(data=st.data())
def test_other_values_in_a_description_are_told(described: Unit, data: st.DataObject) -> None:
    path = described.description
    content = path.read_bytes()
    try:
        path.write_text(json.dumps(data.draw(damaged_json(json.loads(content)))))
        reads_or_refuses(lambda: _figures(described), size=path.stat().st_size + described.file.stat().st_size)
    finally:
        path.write_bytes(content)


def _figures(unit: Unit) -> None:
    """What a run does with a layer that is there."""
    row = unit.row()
    assert row is not None
    assert sum(row[name] for name in ("bytes", "seconds", "relative_error")) is not None
