"""Headers of GGUF files against the package that writes them; truncated and damaged ones are told."""

import struct
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch

from resmoe_lab._core.errors import CheckpointError
from resmoe_lab.checkpoint import open_checkpoint
from resmoe_lab.checkpoint.codecs.gguf import decoded
from resmoe_lab.checkpoint.gguf.header import map_gguf, read_gguf_header

from .converted import convert, make


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return convert("qwen3moe", make("qwen3moe"), tmp_path / "model.gguf", types=lambda name: "Q4_0")


def test_a_header_says_what_the_gguf_package_reads(file: Path) -> None:
    ours, theirs = read_gguf_header(file), gguf.GGUFReader(file)
    assert {name: (t.kind, t.shape, t.start, t.nbytes) for name, t in ours.tensors.items()} == {
        t.name: (t.tensor_type.name, tuple(int(side) for side in reversed(t.shape)), t.data_offset, int(t.n_bytes))
        for t in theirs.tensors
    }
    assert ours.start == theirs.data_offset
    fields = {name: field.contents() for name, field in theirs.fields.items() if not name.startswith("GGUF.")}
    assert fields.pop("tokenizer.ggml.tokens") == [f"t{number}" for number in range(96)]
    assert dict(ours.metadata) == fields | {"tokenizer.ggml.tokens": 96}


def test_bytes_are_mapped_as_they_lie_in_the_file(file: Path) -> None:
    stored = {tensor.name: tensor for tensor in gguf.GGUFReader(file).tensors}
    for name, tensor in map_gguf(file, stored, "cpu").items():
        assert tensor.numpy().tobytes() == stored[name].data.tobytes()
        assert tensor.shape[:-1] == tuple(reversed(stored[name].shape.tolist()))[:-1]


def _decodable() -> list[gguf.GGMLQuantizationType]:
    found = []
    for kind in gguf.GGMLQuantizationType:
        try:
            gguf.quants.dequantize(np.zeros((1, gguf.GGML_QUANT_SIZES[kind][1]), np.uint8), kind)
        except NotImplementedError:
            continue
        found.append(kind)
    return found


@pytest.mark.parametrize("kind", _decodable(), ids=lambda kind: kind.name)
@pytest.mark.filterwarnings("ignore:overflow encountered", "ignore:invalid value encountered")
def test_every_type_decodes_as_the_gguf_package_does(kind: gguf.GGMLQuantizationType) -> None:
    """Random bytes, many more rows than are decoded at once; what is no number is none in both."""
    size = gguf.GGML_QUANT_SIZES[kind][1]
    size *= max(1, 8 // size)
    rows = np.random.default_rng(0).integers(0, 256, (4100, 2 * size), dtype=np.uint8)
    expected = gguf.quants.dequantize(rows, kind)
    found = decoded(torch.from_numpy(rows), kind.name)
    assert found.dtype == torch.float32
    assert found.numpy().tobytes() == np.ascontiguousarray(expected, dtype=np.float32).tobytes()


@pytest.mark.parametrize("size", [0, 3, 23, 40, 300, -200, -1])
def test_a_truncated_file_is_told(file: Path, size: int) -> None:
    content = file.read_bytes()
    file.write_bytes(content[:size])
    with pytest.raises(CheckpointError, match="truncated") as caught:
        open_checkpoint(file)
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("start", "said"),
    [
        (b"PK\x03\x04", r"begins with b'PK\\x03\\x04', expected b'GGUF'"),
        (b"GGUF" + struct.pack(">I", 3), "big-endian GGUF file"),
        (b"GGUF" + struct.pack("<I", 1), "GGUF version 1, expected one of 2, 3"),
        (b"GGUF" + struct.pack("<IQ", 3, 2**62), "4611686018427387904 entries, expected at most"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 2**62), "4611686018427387904 entries, expected at most"),
        (b"GGUF" + struct.pack("<IQQQ", 3, 0, 1, 2**40), "truncated: its header goes on for 1099511627776 bytes"),
        (b"GGUF" + struct.pack("<IQQQ2sI", 3, 0, 1, 2, b"a.", 77), "a value of type 77"),
        (
            b"GGUF" + struct.pack("<IQQQ2sIIQ", 3, 0, 1, 2, b"a.", 9, 4, 2**24),
            "truncated: its header goes on for 67108864",
        ),
        (b"GGUF" + struct.pack("<IQQQ2sI", 3, 1, 0, 2, b"a.", 99), "of 99 dimensions"),
        (b"GGUF" + struct.pack("<IQQQ2sIQIQ", 3, 1, 0, 2, b"a.", 1, 33, 2, 0), "Q4_0 stores 32 weights together"),
        (
            b"GGUF" + struct.pack("<IQQQ2sIQIQ", 3, 1, 0, 2, b"a.", 1, 2**40, 0, 0),
            "truncated: tensor 'a.' ends at byte",
        ),
        (b"GGUF" + struct.pack("<IQQQ2sIQIQ", 3, 1, 0, 2, b"a.", 1, 32, 900, 0), "type 900, which the installed gguf"),
        (
            b"GGUF" + struct.pack("<IQQQ2sIQIQ", 3, 1, 0, 2, b"a.", 1, 32, 26, 0),
            "type I32, which the gguf package cannot",
        ),
    ],
)
def test_a_header_that_cannot_be_is_told(start: bytes, said: str, tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(start.ljust(4096, b"\0"))
    with pytest.raises(CheckpointError, match=said) as caught:
        open_checkpoint(path)
    assert "\n" not in str(caught.value)


def test_overlapping_tensors_are_told(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    one = [struct.pack("<Q1sIQIQ", 1, name, 1, 32, 0, 64 * place) for place, name in enumerate((b"a", b"b"))]
    path.write_bytes((b"GGUF" + struct.pack("<IQQ", 3, 2, 0) + b"".join(one)).ljust(4096, b"\0"))
    with pytest.raises(CheckpointError, match=r"tensor 'b' begins at byte \d+, inside of another"):
        open_checkpoint(path)


def test_the_missing_package_is_named(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "gguf", None)
    with pytest.raises(CheckpointError, match=r"needs the package gguf: pip install 'resmoe-lab\[gguf\]'"):
        open_checkpoint(file)
