"""Which GGUF files are one model: folders, split files, and what is told about others."""

from pathlib import Path

import pytest
import torch

from resmoe_lab._core.errors import CheckpointError
from resmoe_lab.checkpoint import open_checkpoint
from resmoe_lab.checkpoint.reader import read_tensors
from resmoe_lab.experts import load_stack
from resmoe_lab.store.manifest import checkpoint_hash

from .converted import convert, make


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    (tmp_path / "whole").mkdir()
    return convert("qwen3moe", make("qwen3moe"), tmp_path / "whole" / "model.gguf", types=lambda name: "Q8_0")


@pytest.fixture
def split(tmp_path: Path) -> Path:
    """As llama.cpp's own package splits a model, eight tensors a file."""
    (tmp_path / "split").mkdir()
    path = tmp_path / "split" / "model.gguf"
    convert("qwen3moe", make("qwen3moe"), path, types=lambda name: "Q8_0", split_max_tensors=8)
    return path.parent


def test_a_folder_is_its_file(whole: Path) -> None:
    file, folder = open_checkpoint(whole), open_checkpoint(whole.parent)
    assert file.tensors == folder.tensors
    assert file.source == folder.source == str(whole)
    assert open_checkpoint(file.source).tensors == file.tensors
    assert checkpoint_hash(file) == checkpoint_hash(folder)


def test_a_split_model_is_the_whole_one(whole: Path, split: Path) -> None:
    files = sorted(split.glob("*.gguf"))
    assert len(files) > 2
    expected = open_checkpoint(whole)
    for place in (split, files[0], files[1]):
        checkpoint = open_checkpoint(place)
        assert checkpoint.files == files
        assert checkpoint.config == expected.config
        assert checkpoint.gguf == files[0]
        found, tensors = (read_tensors(one, one.tensors) for one in (checkpoint, expected))
        assert set(found) == set(tensors)
        assert all(torch.equal(found[name], tensors[name]) for name in tensors)
    assert torch.equal(load_stack(open_checkpoint(split), layer=1).weights, load_stack(expected, layer=1).weights)


def test_a_missing_part_is_named(split: Path) -> None:
    (split / "model-00002-of-00004.gguf").unlink()
    for place in (split, split / "model-00001-of-00004.gguf"):
        with pytest.raises(CheckpointError, match=r"lacks model-00002-of-00004\.gguf, one of 4 parts"):
            open_checkpoint(place)


def test_parts_of_another_order_are_told(split: Path) -> None:
    first, second = split / "model-00001-of-00004.gguf", split / "model-00002-of-00004.gguf"
    first.rename(split / "aside")
    second.rename(first)
    (split / "aside").rename(second)
    with pytest.raises(CheckpointError, match="says it is part 2 of 4, expected 1 of 4"):
        open_checkpoint(split)


def test_one_part_alone_under_another_name_is_told(split: Path, tmp_path: Path) -> None:
    alone = (split / "model-00001-of-00004.gguf").rename(tmp_path / "alone.gguf")
    with pytest.raises(CheckpointError, match="says it is part 1 of 4, expected 1 of 1"):
        open_checkpoint(alone)


def test_two_models_in_a_folder_are_named(whole: Path) -> None:
    (whole.parent / "other.gguf").write_bytes(whole.read_bytes())
    with pytest.raises(CheckpointError, match=r"holds 2 models in GGUF, such as model\.gguf and other\.gguf: name one"):
        open_checkpoint(whole.parent)
    assert open_checkpoint(whole).gguf == whole


def test_safetensors_come_before_gguf(whole: Path, pico_folder: Path) -> None:
    whole.rename(pico_folder / "model.gguf")
    assert open_checkpoint(pico_folder).gguf is None


def test_a_large_file_is_told_from_another(whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from resmoe_lab.store import manifest

    monkeypatch.setattr(manifest, "_WHOLE", 1 << 10)
    before = checkpoint_hash(open_checkpoint(whole))
    content = bytearray(whole.read_bytes())
    content[-1] ^= 1
    whole.write_bytes(content)
    assert checkpoint_hash(open_checkpoint(whole)) != before
