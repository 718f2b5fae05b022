import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from resmoe_lab._core.errors import CheckpointError, OutputError
from resmoe_lab.transport import barycenter, load_barycenter, save_barycenter

from ..fuzzing import damaged_json, reads_or_refuses
from .clouds import unrelated


@pytest.mark.parametrize("certify", [True, False])
def test_what_is_saved_is_what_is_loaded(tmp_path, certify):
    result = barycenter(unrelated(3, 10, 4), certify=certify)
    path = tmp_path / "layer-3.safetensors"
    save_barycenter(result, path)
    again = load_barycenter(path)
    assert torch.equal(again.center, result.center)
    assert torch.equal(again.permutations, result.permutations)
    for name in ("objective", "history", "iterations", "seconds", "solver", "certificate", "plan"):
        assert getattr(again, name) == getattr(result, name)
    assert [file.name for file in tmp_path.iterdir()] == ["layer-3.safetensors"]


def test_files_of_version_0_1_0_are_loaded(tmp_path):
    result, path = barycenter(unrelated(3, 10, 4)), tmp_path / "layer-3.safetensors"
    save_barycenter(result, path)
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    facts = json.loads(metadata["facts"])
    facts["plan"]["lanes"] = facts["plan"].pop("threads")
    save_file(load_file(path), path, metadata={**metadata, "facts": json.dumps(facts)})
    assert load_barycenter(path).plan == result.plan


def test_other_files_are_refused(tmp_path):
    path = tmp_path / "other.safetensors"
    save_file({"center": torch.zeros(1)}, path)
    with pytest.raises(CheckpointError, match="not a barycenter"):
        load_barycenter(path)
    path.write_bytes(b"nonsense")
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_barycenter(path)
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_barycenter(tmp_path / "none")


def test_a_place_that_is_not_there_is_named(tmp_path):
    with pytest.raises(OutputError, match="cannot be written"):
        save_barycenter(barycenter(unrelated(2, 3, 2)), tmp_path / "no" / "where")


@settings(derandomize=True, max_examples=100)
@given(data=st.data())
def test_other_facts_are_told(data, tmp_path_factory):
    path, other = (tmp_path_factory.getbasetemp() / f"facts-{name}.safetensors" for name in "ab")
    if not path.is_file():
        save_barycenter(barycenter(unrelated(3, 10, 4)), path)
    load_barycenter(path)  # imports take their room only once
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    facts = data.draw(damaged_json(json.loads(metadata["facts"])))
    save_file(load_file(path), other, metadata={**metadata, "facts": json.dumps(facts)})
    reads_or_refuses(lambda: load_barycenter(other), size=other.stat().st_size)
