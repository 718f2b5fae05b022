"""Colour palettes of CIFAR-10's ships, deer and cars, averaged as distributions of pixels."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from ..._core.datasets import find_data
from ..._core.errors import DataError
from ..._core.pictures import read_pixels
from ..problem import Problem
from ._base import EXPERIMENTS, Case, Experiment
from ._colors import palette_case, scaled

#: Numbers of the classes: at sea, in the woods, on the road.
CLASSES = {"ships": 8, "deer": 4, "cars": 1}
_BATCH, _SIDE, _SHOWN = 0, 32, 3


def pictures() -> dict[str, np.ndarray]:
    """Return the pictures of each class of a batch of the sample: (n, 32, 32, 3) values in [0, 1].

    Raises
    ------
    DataError
        If the sample is not found, or is not what it was.
    """
    pixels = read_pixels(find_data(f"cifar10_sample/cifar10_batch_{_BATCH}.png"))
    words = find_data(f"cifar10_sample/cifar10_labels_{_BATCH}.txt").read_text("utf-8").split()
    if pixels.size != len(words) * _SIDE * _SIDE * 3:
        raise DataError(
            f"CIFAR-10's sample has {pixels.size:,} values and {len(words):,} labels, expected 3,072 values a label"
        )
    images = pixels.reshape(-1, _SIDE, _SIDE, 3).astype(np.float32) / 255
    return {name: images[np.array(words) == str(number)] for name, number in CLASSES.items()}


def palettes(images: Mapping[str, np.ndarray]) -> Problem:
    """Return the pixels of each class as a distribution of colours."""
    return Problem([scaled(own.reshape(-1, 3)) for own in images.values()])


def _cases(quick: bool) -> Iterator[Case]:
    images = pictures()
    shown = {name: own[:_SHOWN] for name, own in images.items()}
    yield palette_case("nwb", palettes(images), shown, quick=quick)


EXPERIMENTS.register("cifar-palettes")(
    Experiment(
        "Colour palettes of ships, deer and cars of CIFAR-10",
        "Fan, Taghvaei and Chen (2021), section 4.4, Figures 8 and 9, with real pictures",
        _cases,
    )
)
