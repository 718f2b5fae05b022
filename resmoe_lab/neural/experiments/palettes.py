"""Colour palettes of three synthetic images, averaged as distributions of pixels."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ..problem import Problem
from ._base import EXPERIMENTS, Case, Experiment
from ._colors import palette_case, scaled


def pictures(side: int = 96) -> dict[str, np.ndarray]:
    """Return synthetic images of a forest, a sea and a sunset: (side, side, 3) values in [0, 1]."""
    random = np.random.default_rng(0)
    y, x = np.mgrid[0 : 1 : side * 1j, 0 : 1 : side * 1j]
    waves = 0.5 + 0.5 * np.sin(14 * x + 5 * np.sin(6 * y))
    leaves = 0.5 + 0.5 * np.sin(25 * x) * np.cos(31 * y)
    images = {
        "forest": [0.1 + 0.35 * leaves * y, 0.25 + 0.5 * leaves, 0.05 + 0.25 * (1 - y)],
        "sea": [0.1 + 0.3 * waves * (1 - y), 0.35 + 0.35 * waves, 0.6 + 0.35 * (1 - y)],
        "sunset": [0.6 + 0.4 * (1 - y), 0.25 + 0.45 * y * waves, 0.15 + 0.3 * (1 - y)],
    }
    noise = {name: 0.03 * random.standard_normal((side, side, 3)) for name in images}
    return {name: np.clip(np.stack(parts, axis=-1) + noise[name], 0, 1) for name, parts in images.items()}


def palettes() -> Problem:
    """Return the images' pixels as three distributions of colours."""
    return Problem([scaled(picture.reshape(-1, 3).astype(np.float32)) for picture in pictures().values()])


def _cases(quick: bool) -> Iterator[Case]:
    images = pictures()
    yield palette_case("nwb", palettes(), {name: image[None] for name, image in images.items()}, quick=quick)


EXPERIMENTS.register("palettes")(
    Experiment(
        "Colour palettes of three pictures made here",
        "Fan, Taghvaei and Chen (2021), section 4.4, Figures 8 and 9",
        _cases,
    )
)
