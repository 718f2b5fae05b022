from __future__ import annotations

import io

import numpy as np
from matplotlib import colormaps
from PIL import Image

from resmoe_lab.plots.raster import block_rms, color_png, data_uri, two_color_png


def _pixels(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGBA"))


def test_colors_are_the_maps_and_nan_is_nothing() -> None:
    pixels = _pixels(color_png(np.array([[0.0, 2.0], [np.nan, 1.0]]), low=0.0, high=2.0, cmap="YlGnBu"))
    for place, share in {(0, 0): 0.0, (0, 1): 1.0, (1, 1): 0.5}.items():
        assert np.allclose(pixels[place], np.array(colormaps["YlGnBu"](share)) * 255, atol=1)
    assert pixels[1, 0, 3] == 0


def test_ink_has_two_colors_and_its_opacity_is_the_darkness() -> None:
    darkness = np.array([[0.0, 0.5, 1.0]])
    pixels = _pixels(two_color_png(darkness, np.array([[False, False, True]]), colors=("#102030", "#a0b0c0")))
    assert pixels[0, 0, 3] == 0
    assert abs(int(pixels[0, 1, 3]) - 128) <= 255 / 14 + 1
    assert tuple(pixels[0, 2]) == (0xA0, 0xB0, 0xC0, 255)
    assert tuple(pixels[0, 1, :3]) == (0x10, 0x20, 0x30)


def test_shrinking_is_the_root_mean_square_of_each_block() -> None:
    values = np.random.default_rng(0).normal(size=(7, 10))
    small = block_rms(values, 3, 4)
    rows, columns = np.linspace(0, 7, 4).round().astype(int), np.linspace(0, 10, 5).round().astype(int)
    for i in range(3):
        for j in range(4):
            block = values[rows[i] : rows[i + 1], columns[j] : columns[j + 1]]
            assert np.isclose(small[i, j], np.sqrt(np.mean(block**2)))


def test_a_small_matrix_keeps_its_size() -> None:
    values = np.array([[3.0, -4.0]])
    assert np.array_equal(block_rms(values, 100, 100), [[3.0, 4.0]])


def test_an_address_needs_no_network() -> None:
    assert data_uri(b"\x89PNG") == "data:image/png;base64,iVBORw=="
