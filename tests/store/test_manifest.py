"""Manifests: of this run, of another, of nothing, and damaged."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resmoe_lab._core.errors import CheckpointError, OutputError
from resmoe_lab.checkpoint import Checkpoint, open_checkpoint
from resmoe_lab.compress import CompressionConfig, compress_checkpoint
from resmoe_lab.runtime.bench import sources
from resmoe_lab.runtime.loading import check_hashes
from resmoe_lab.store.manifest import MANIFEST_FILE, check_output, found_manifest, open_output, read_manifest

from ..experts import pico
from ..fuzzing import damaged, damaged_json, reads_or_refuses


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    check_output(tmp_path)
    check_output(tmp_path / "new")
    (tmp_path / ".lock").write_text("process 1")
    (tmp_path / "x.safetensors.0123abcd.part").write_text("half")
    check_output(tmp_path)
    (tmp_path / "precious").write_text("mine")
    with pytest.raises(OutputError, match="holds something else"):
        check_output(tmp_path)
    with pytest.raises(OutputError, match="is a file"):
        check_output(tmp_path / "precious")


def test_a_new_folder_is_made_and_another_run_refused(tmp_path: Path) -> None:
    out = tmp_path / "a" / "b"
    assert found_manifest(out, {"keep": 1}) == {"settings": {"keep": 1}, "layers": {}, "finished": False}
    assert not out.exists()
    (open_output(out, {"keep": 1}), (out / MANIFEST_FILE).write_text(json.dumps({"settings": {"keep": 1}})))
    assert found_manifest(out, {"keep": 1}) == {"settings": {"keep": 1}, "layers": {}, "finished": False}
    with pytest.raises(OutputError, match=r"made with keep 1 \(now 2\)"):
        found_manifest(out, {"keep": 2})


def test_a_manifest_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"is damaged .*No such file"):
        read_manifest(tmp_path)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("finished")
    source = open_checkpoint(pico.save(pico.mixtral(), folder / "pico"))
    compress_checkpoint(source, folder / "out", _CONFIG)
    _used(folder)  # imports take their room only once
    sources(open_checkpoint(folder / "out"), None)
    return folder


_CONFIG = CompressionConfig(method="up", keep=0.5)


def _used(folder: Path) -> None:
    """Go on with a run, and look at its result."""
    compress_checkpoint(open_checkpoint(folder / "pico"), folder / "out", _CONFIG)
    check_hashes(open_checkpoint(folder / "out"))


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


@settings(derandomize=True, max_examples=50)
@given(data=st.data())
def test_other_values_in_a_manifest_are_told(finished: Path, data: st.DataObject) -> None:
    path = finished / "out" / MANIFEST_FILE
    kept = {file: file.read_bytes() for file in (finished / "out").iterdir()}
    manifest = json.loads(kept[path])
    try:
        path.write_text(json.dumps(data.draw(damaged_json(manifest))))
        reads_or_refuses(lambda: _used(finished), size=_size(finished))
    finally:
        for file, content in kept.items():
            file.write_bytes(content)


@settings(derandomize=True, max_examples=40)
@given(data=st.data())
def test_a_damaged_manifest_is_told(finished: Path, data: st.DataObject) -> None:
    path = finished / "out" / MANIFEST_FILE
    content = path.read_bytes()
    try:
        path.write_bytes(data.draw(damaged(content)))
        reads_or_refuses(lambda: check_hashes(open_checkpoint(finished / "out")), size=_size(finished))
        reads_or_refuses(lambda: read_manifest(finished / "out"), size=_size(finished))
    finally:
        path.write_bytes(content)


@settings(derandomize=True, max_examples=50)
@given(data=st.data())
def test_other_values_in_a_packed_config_are_told(finished: Path, data: st.DataObject) -> None:
    path = finished / "out" / "config.json"
    content = path.read_bytes()
    config = json.loads(content)
    try:
        packed = data.draw(damaged_json(config["quantization_config"]))
        path.write_text(json.dumps({**config, "quantization_config": packed}))
        reads_or_refuses(lambda: sources(open_checkpoint(finished / "out"), None), size=_size(finished))
    finally:
        path.write_bytes(content)


def test_the_original_is_found_by_the_manifest(pico_checkpoint: Checkpoint, tmp_path: Path) -> None:
    compress_checkpoint(pico_checkpoint, tmp_path / "out", _CONFIG)
    packed = open_checkpoint(tmp_path / "out")
    assert sources(packed, None)["original"] == str(pico_checkpoint.folder)
    (tmp_path / "out" / MANIFEST_FILE).unlink()
    assert set(sources(packed, None)) == {"restored"}
