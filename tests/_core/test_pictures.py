"""Pictures are read as they look, and what is none is one line that names it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from resmoe_lab._core import pictures
from resmoe_lab._core.errors import DataError
from resmoe_lab._core.pictures import read_square


def test_the_middle_is_averaged(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (8, 14, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "wide.png")
    expected = pixels[:, 3:11].reshape(4, 2, 4, 2, 3).mean(axis=(1, 3)) / 255
    assert read_square(tmp_path / "wide.png", 4) == pytest.approx(expected, abs=1.1 / 255)
    Image.fromarray(pixels.transpose(1, 0, 2)).save(tmp_path / "high.png")
    assert read_square(tmp_path / "high.png", 4) == pytest.approx(expected.transpose(1, 0, 2), abs=1.1 / 255)


def test_gray_and_photographs_are_read_too(tmp_path: Path) -> None:
    Image.fromarray(np.full((6, 6), 51, dtype=np.uint8)).save(tmp_path / "gray.png")
    assert read_square(tmp_path / "gray.png", 3) == pytest.approx(np.full((3, 3, 3), 0.2))
    Image.fromarray(np.full((16, 16, 3), 128, dtype=np.uint8)).save(tmp_path / "photograph.jpg")
    assert read_square(tmp_path / "photograph.jpg", 2) == pytest.approx(np.full((2, 2, 3), 128 / 255), abs=0.02)


def test_what_is_no_picture_is_named(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((64, 64, 3), dtype=np.uint8)).save(tmp_path / "whole.png")
    whole = (tmp_path / "whole.png").read_bytes()
    for name, content in (("empty.png", b""), ("text.jpg", b"a picture"), ("cut.png", whole[:60])):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError, match=rf"picture .*{name} cannot be read \(.*\): repair it, or leave it out$"):
            read_square(tmp_path / name, 4)
    with pytest.raises(DataError, match=r"missing.png cannot be read"):
        read_square(tmp_path / "missing.png", 4)
    Image.fromarray(np.zeros((4, 4, 3), dtype=np.uint8)).save(tmp_path / "other.png", format="GIF")
    with pytest.raises(DataError, match=r"other.png cannot be read"):
        read_square(tmp_path / "other.png", 4)


def test_large_ones_are_refused_before_they_are_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.fromarray(np.zeros((20, 30, 3), dtype=np.uint8)).save(tmp_path / "large.png")
    monkeypatch.setattr(pictures, "MOST_PIXELS", 599)
    with pytest.raises(DataError, match=r"large.png has 30 x 20 pixels, expected at most 599"):
        read_square(tmp_path / "large.png", 4)
    monkeypatch.setattr(pictures, "MOST_BYTES", 50)
    with pytest.raises(DataError, match=r"large.png has \d+ bytes, expected at most 50"):
        read_square(tmp_path / "large.png", 4)
