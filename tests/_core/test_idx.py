"""Files in MNIST's format: whole, damaged at random, and of those that claim or unpack to more than they are."""

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings

from resmoe_lab._core.errors import DataError
from resmoe_lab._core.idx import idx_bytes, read_idx

from ..fuzzing import damaged, reads_or_refuses

IMAGES = np.random.default_rng(0).integers(0, 256, (5, 4, 3), dtype=np.uint8)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    (tmp_path / "x.gz").write_bytes(idx_bytes(IMAGES))
    assert np.array_equal(read_idx(tmp_path / "x.gz", axes=3), IMAGES)


@pytest.mark.parametrize(
    ("shape", "body", "said"),
    [
        ((5, 4, 3), 59, "holds 59 values, expected 60"),
        ((5, 4, 3), 61, "holds more values, expected 60"),
        ((1 << 12, 1 << 12, 1 << 12), 60, "claims 68,719,476,736 values"),
        ((-1, -60, 1), 60, "header is"),
        ((1, 1, 1), 1 << 24, "holds more values"),
    ],
)
def test_a_header_that_says_something_else_is_told(
    shape: tuple[int, ...], body: int, said: str, tmp_path: Path
) -> None:
    content = gzip.compress(struct.pack(">iiii", 0x803, *shape) + bytes(body), mtime=0)
    (tmp_path / "x.gz").write_bytes(content)
    with pytest.raises(DataError, match=said):
        read_idx(tmp_path / "x.gz", axes=3)
    reads_or_refuses(lambda: _read(tmp_path / "x.gz"), size=len(content))


def _read(path: Path) -> np.ndarray:
    return read_idx(path, axes=3)


@settings(derandomize=True, max_examples=150)
@given(packed=damaged(idx_bytes(IMAGES)))
def test_damage_is_told(packed: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.getbasetemp() / "damaged-idx.gz"
    path.write_bytes(packed)
    reads_or_refuses(lambda: _read(path), size=len(packed))


@settings(derandomize=True, max_examples=150)
@given(content=damaged(gzip.decompress(idx_bytes(IMAGES))))
def test_damage_under_the_packing_is_told(content: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.getbasetemp() / "damaged-inside.gz"
    path.write_bytes(gzip.compress(content, mtime=0))
    reads_or_refuses(lambda: _read(path), size=len(content))
