"""Colour palettes of three synthetic images, averaged as distributions of pixels."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from ..metrics import bures_uvp, gaussian_barycenter, moments, sliced_w2
from ..problem import Problem
from ._base import EXPERIMENTS, Case, Experiment, solver_case

_COUNT, _SCALE = 4000, 5.0


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
    return Problem([_scaled(picture.reshape(-1, 3).astype(np.float32)) for picture in pictures().values()])


def _scaled(colors: Any) -> Any:
    """Return colours scaled to about unit variance."""
    return (colors - 0.5) * _SCALE


def recoloured(solver: Any) -> dict[str, np.ndarray]:
    """Return the images with their pixels mapped to the barycenter."""
    images = pictures()
    points = torch.stack([torch.as_tensor(_scaled(p.reshape(-1, 3)), dtype=torch.float32) for p in images.values()])
    pushed = (solver.push(points) / _SCALE + 0.5).clamp(0, 1).numpy()
    return {name: image.reshape(images[name].shape) for name, image in zip(images, pushed, strict=True)}


def _cases(quick: bool) -> Iterator[Case]:
    problem = palettes()
    gaussian = gaussian_barycenter(problem)

    def measure(solver: Any) -> dict[str, float]:
        pushed = solver.push(problem.sample(_COUNT, torch.Generator().manual_seed(19)))
        generated = solver.sample(_COUNT)
        after = [sliced_w2(first, second) for i, first in enumerate(pushed) for second in pushed[i + 1 :]]
        sources = [problem.sample(_COUNT, torch.Generator().manual_seed(20))[i] for i in range(len(problem))]
        before = [sliced_w2(first, second) for i, first in enumerate(sources) for second in sources[i + 1 :]]
        return {
            "sliced W2 between recoloured pictures": float(np.mean(after)),
            "sliced W2 between the pictures": float(np.mean(before)),
            "sliced W2 of generator to recoloured": float(np.mean([sliced_w2(generated, images) for images in pushed])),
            "BW2-UVP to the barycenter of fitted Gaussians": bures_uvp(moments(generated), gaussian),
            "share outside the colour cube": float(((generated / _SCALE).abs() > 0.5).any(dim=1).float().mean()),
        }

    def picture_rows(solver: Any) -> dict[str, np.ndarray]:
        return {
            "images": np.stack(list(pictures().values())),
            "recoloured": np.stack(list(recoloured(solver).values())),
        }

    settings = {"steps": 250 if quick else 1000, "width": 16, "batch": 300}
    yield solver_case("nwb", problem, "nwb", measure=measure, settings=settings, pictures=picture_rows)


EXPERIMENTS.register("palettes")(
    Experiment(
        "Colour palettes of three pictures made here",
        "Fan, Taghvaei and Chen (2021), section 4.4, Figures 8 and 9",
        _cases,
    )
)
