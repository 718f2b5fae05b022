"""JSON and arrays that anybody may have made: a value, or a ValueError."""

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings

from resmoe_lab._core.errors import DataError
from resmoe_lab._core.parsing import parse_json, read_arrays, read_json

from ..fuzzing import damaged, reads_or_refuses

ARRAYS = {"a_0": np.arange(12).reshape(3, 4), "b_10": np.asfortranarray(np.eye(3)), "none": np.zeros((0, 2))}


def _packed(**arrays: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.savez_compressed(stream, allow_pickle=False, **arrays)
    return stream.getvalue()


def test_nesting_is_no_value() -> None:
    assert parse_json("[[1]]") == [[1]]
    with pytest.raises(ValueError, match="nested too deeply"):
        parse_json("[" * 100_000)


def test_text_of_another_encoding_is_no_value(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes("[1]".encode("utf-16"))
    with pytest.raises(ValueError, match="utf-8"):
        read_json(tmp_path / "x")


def test_arrays_come_back(tmp_path: Path) -> None:
    (tmp_path / "x.npz").write_bytes(_packed(**ARRAYS))
    found = read_arrays(tmp_path / "x.npz")
    assert list(found) == list(ARRAYS)
    for name, array in ARRAYS.items():
        assert found[name].dtype == array.dtype
        assert np.array_equal(found[name], array)


def _archive(path: Path, name: str, content: bytes) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, content)


def test_an_array_of_other_bytes_than_it_says_is_refused(tmp_path: Path) -> None:
    stream = io.BytesIO()
    np.save(stream, np.zeros(8), allow_pickle=False)
    _archive(tmp_path / "x.npz", "x.npy", stream.getvalue()[:-1])
    with pytest.raises(ValueError, match=r"an array of 63 bytes, expected \(8,\) of float64"):
        read_arrays(tmp_path / "x.npz")


def test_what_unpacks_to_far_more_is_not_unpacked(tmp_path: Path) -> None:
    _archive(tmp_path / "x.npz", "x.npy", bytes(65 << 20))
    with pytest.raises(ValueError, match="unpacks to 68,157,440 bytes"):
        read_arrays(tmp_path / "x.npz")
    assert reads_or_refuses(lambda: _read(tmp_path / "x.npz"), size=1 << 16) is False


def test_an_entry_that_is_larger_than_the_file_is_not_read(tmp_path: Path) -> None:
    content = bytearray(_packed(a_0=np.arange(12)))
    place = content.rindex(b"PK\x01\x02") + 20  # where the central directory has an entry's packed size
    content[place : place + 4] = (1 << 25).to_bytes(4, "little")
    (tmp_path / "x.npz").write_bytes(content)
    with pytest.raises(ValueError, match="takes 33,554,432 bytes of"):
        read_arrays(tmp_path / "x.npz")


def _read(path: Path) -> dict[str, np.ndarray]:
    try:
        return read_arrays(path)
    except ValueError as error:
        raise DataError(str(error)) from error


@settings(derandomize=True, max_examples=200)
@given(packed=damaged(_packed(**ARRAYS)))
def test_damage_is_told(packed: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.getbasetemp() / "damaged.npz"
    path.write_bytes(packed)
    reads_or_refuses(lambda: _read(path), size=len(packed))
