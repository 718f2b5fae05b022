"""Checkpoints as they come: whole, sharded, damaged, and hostile."""

import json
import os
import pickle
import struct
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from resmoe_lab._core.errors import CheckpointError
from resmoe_lab.checkpoint import Checkpoint, open_checkpoint
from resmoe_lab.checkpoint.reader import read_tensors
from resmoe_lab.experts import family_of

from ..experts import pico
from ..fuzzing import damaged, damaged_json, reads_or_refuses


def test_headers_tell_what_the_tensors_are(pico_checkpoint: Checkpoint) -> None:
    stored = load_file(pico_checkpoint.folder / "model.safetensors")
    assert set(pico_checkpoint.tensors) == set(stored)
    for name, tensor in stored.items():
        info = pico_checkpoint.tensors[name]
        assert info.shape == tuple(tensor.shape)
        assert info.nbytes == tensor.numel() * tensor.element_size()
    assert pico_checkpoint.total_bytes == sum(t.numel() * t.element_size() for t in stored.values())


def test_sharded_is_the_same_as_single(pico_folder: Path, tmp_path: Path) -> None:
    sharded = open_checkpoint(pico.save(pico.mixtral(), tmp_path / "sharded", shards=True))
    assert len({info.file for info in sharded.tensors.values()}) > 1
    single = open_checkpoint(pico_folder)
    ours, theirs = read_tensors(sharded, sharded.tensors), read_tensors(single, single.tensors)
    assert set(ours) == set(theirs)
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.parametrize("size", [0, 5, 8, 100, -1])
def test_a_truncated_file_is_told(pico_folder: Path, size: int) -> None:
    path = pico_folder / "model.safetensors"
    content = path.read_bytes()
    path.write_bytes(content[: size if size >= 0 else len(content) - 1])
    with pytest.raises(CheckpointError, match=r"truncated|expected \d+") as caught:
        open_checkpoint(pico_folder)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    "raw", [b"{ ", b"[]", b'{"a": 3}', b'{"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}}']
)
def test_a_damaged_header_is_told(pico_folder: Path, raw: bytes) -> None:
    (pico_folder / "model.safetensors").write_bytes(struct.pack("<Q", len(raw)) + raw + bytes(4))
    with pytest.raises(CheckpointError, match="damaged safetensors header"):
        open_checkpoint(pico_folder)


def test_a_header_of_absurd_length_is_not_read(pico_folder: Path) -> None:
    (pico_folder / "model.safetensors").write_bytes(struct.pack("<Q", 2**62) + b"{}")
    with pytest.raises(CheckpointError, match="truncated or no safetensors"):
        open_checkpoint(pico_folder)


class _Bomb:
    """Unpickling this would leave a mark."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.mark),)


def test_pickles_are_refused_and_never_opened(pico_folder: Path, tmp_path: Path) -> None:
    (pico_folder / "model.safetensors").unlink()
    (pico_folder / "pytorch_model.bin").write_bytes(pickle.dumps(_Bomb(tmp_path / "mark")))
    with pytest.raises(CheckpointError, match=r"pickled weights \(pytorch_model.bin\).*save_pretrained"):
        open_checkpoint(pico_folder)
    assert not (tmp_path / "mark").exists()


def _index(folder: Path, shard: str) -> None:
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"x": shard}}))


@pytest.mark.parametrize("name", ["../outside.safetensors", "..", ".", "", "/outside.safetensors"])
def test_a_shard_outside_the_folder_is_refused(name: str, pico_folder: Path) -> None:
    save_file({"x": torch.zeros(1)}, pico_folder.parent / "outside.safetensors")
    _index(pico_folder, name)
    with pytest.raises(CheckpointError, match="is outside of the folder"):
        open_checkpoint(pico_folder)


def test_a_link_out_of_the_folder_is_refused(pico_folder: Path) -> None:
    save_file({"x": torch.zeros(1)}, pico_folder.parent / "outside.safetensors")
    (pico_folder / "link.safetensors").symlink_to(pico_folder.parent / "outside.safetensors")
    _index(pico_folder, "link.safetensors")
    with pytest.raises(CheckpointError, match="is outside of the folder"):
        open_checkpoint(pico_folder)


def test_the_hub_caches_links_are_followed(pico_folder: Path, tmp_path: Path) -> None:
    snapshot, blobs = tmp_path / "cache" / "snapshots" / "main", tmp_path / "cache" / "blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    for path in pico_folder.iterdir():
        path.rename(blobs / path.name)
        (snapshot / path.name).symlink_to(Path("../../blobs") / path.name)
    assert open_checkpoint(snapshot).model_type == "mixtral"


def test_links_to_what_all_models_of_the_hubs_cache_share_are_followed(pico_folder: Path, tmp_path: Path) -> None:
    snapshot, blobs = (
        tmp_path / "hub" / "models--a--b" / "snapshots" / "main",
        tmp_path / "hub" / "models--a--b" / "blobs",
    )
    shared = tmp_path / "hub" / "blobs" / "ab"
    for folder in (snapshot, blobs, shared):
        folder.mkdir(parents=True)
    for path in pico_folder.iterdir():
        path.rename(shared / path.name)
        (blobs / path.name).symlink_to(Path("../../blobs/ab") / path.name)
        (snapshot / path.name).symlink_to(Path("../../blobs") / path.name)
    assert open_checkpoint(snapshot).model_type == "mixtral"
    save_file({"x": torch.zeros(1)}, tmp_path / "hub" / "outside.safetensors")
    (snapshot / "model.safetensors").unlink()
    (snapshot / "model.safetensors").symlink_to(tmp_path / "hub" / "outside.safetensors")
    with pytest.raises(CheckpointError, match="is outside of the folder"):
        open_checkpoint(snapshot)


def test_a_missing_shard_is_named(pico_folder: Path) -> None:
    _index(pico_folder, "model-00002-of-00002.safetensors")
    with pytest.raises(CheckpointError, match=r"lacks the shard 'model-00002-of-00002\.safetensors'"):
        open_checkpoint(pico_folder)


def test_a_missing_path_names_what_was_expected(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"expected a zoo name .*mixtral-tiny.* or a hub id"):
        open_checkpoint(tmp_path / "nowhere")


def test_a_hub_id_offline_is_one_clear_line() -> None:
    with pytest.raises(CheckpointError, match="the hub did not provide it") as caught:
        open_checkpoint("nobody/no-such-model")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("content", "message"), [("{", "not valid JSON"), ("[]", "expected a JSON object")])
def test_a_damaged_config_is_told(pico_folder: Path, content: str, message: str) -> None:
    (pico_folder / "config.json").write_text(content)
    with pytest.raises(CheckpointError, match=message):
        open_checkpoint(pico_folder)


def test_a_file_is_not_a_checkpoint(pico_folder: Path) -> None:
    with pytest.raises(CheckpointError, match="is a file, expected the checkpoint's folder"):
        open_checkpoint(pico_folder / "config.json")


def test_shards_that_lost_their_index_are_read_if_all_are_there(pico_folder: Path) -> None:
    names = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
    tensors = load_file(pico_folder / "model.safetensors")
    (pico_folder / "model.safetensors").unlink()
    halves = sorted(tensors)[::2], sorted(tensors)[1::2]
    for name, half in zip(names, halves, strict=True):
        save_file({key: tensors[key] for key in half}, pico_folder / name)
    assert set(open_checkpoint(pico_folder).tensors) == set(tensors)
    (pico_folder / names[1]).unlink()
    with pytest.raises(CheckpointError, match="not all shards are there"):
        open_checkpoint(pico_folder)


@pytest.mark.parametrize(
    ("name", "what"),
    [("x.gguf", "no GGUF file"), ("adapter_config.json", "an adapter"), ("consolidated.safetensors", "Mistral's own")],
)
def test_what_is_no_checkpoint_is_called_by_its_name(name: str, what: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / name).write_text("{}")
    with pytest.raises(CheckpointError, match=what):
        open_checkpoint(tmp_path)


def test_kimi_is_read_and_written_as_the_deepseek_it_is(pico_folder: Path) -> None:
    config = json.loads((pico_folder / "config.json").read_text())
    (pico_folder / "config.json").write_text(json.dumps(config | {"model_type": "kimi_k2"}))
    assert open_checkpoint(pico_folder).model_type == "deepseek_v3"


@pytest.fixture(scope="module")
def fuzzed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = pico.save(pico.mixtral(), tmp_path_factory.mktemp("fuzzed") / "pico", shards=True)
    _opened(folder)  # imports take their room only once
    return folder


def _opened(folder: Path) -> None:
    """Open a checkpoint and ask for what any verb asks first."""
    checkpoint = open_checkpoint(folder)
    family = family_of(checkpoint)
    sizes = [family.expert_bytes(checkpoint, layer) for layer in family.layers(checkpoint)]
    assert (sum(sizes), family.layer_shape().num_experts) > (0, 0)


@settings(derandomize=True, max_examples=150)
@given(data=st.data())
def test_damaged_headers_are_told(fuzzed: Path, data: st.DataObject) -> None:
    path = min(fuzzed.glob("*.safetensors"))
    content = path.read_bytes()
    length = 8 + int.from_bytes(content[:8], "little")
    header = data.draw(damaged(content[:length]))
    try:
        path.write_bytes(header + content[length:])
        reads_or_refuses(lambda: _opened(fuzzed), size=len(content))
    finally:
        path.write_bytes(content)


@settings(derandomize=True, max_examples=150)
@given(data=st.data())
def test_other_values_in_headers_are_told(fuzzed: Path, data: st.DataObject) -> None:
    path = min(fuzzed.glob("*.safetensors"))
    content = path.read_bytes()
    length = 8 + int.from_bytes(content[:8], "little")
    raw = json.dumps(data.draw(damaged_json(json.loads(content[8:length])))).encode()
    try:
        path.write_bytes(struct.pack("<Q", len(raw)) + raw + content[length:])
        reads_or_refuses(lambda: _opened(fuzzed), size=len(content))
    finally:
        path.write_bytes(content)


@settings(derandomize=True, max_examples=150)
@pytest.mark.parametrize("name", ["config.json", "model.safetensors.index.json"])
@given(data=st.data())
def test_other_values_in_configs_are_told(fuzzed: Path, name: str, data: st.DataObject) -> None:
    path = fuzzed / name
    content = path.read_bytes()
    try:
        path.write_text(json.dumps(data.draw(damaged_json(json.loads(content)))))
        reads_or_refuses(lambda: _opened(fuzzed), size=sum(file.stat().st_size for file in fuzzed.iterdir()))
    finally:
        path.write_bytes(content)
