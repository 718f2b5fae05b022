"""Colour palettes of three pictures made here, averaged as distributions of pixels."""

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
    """Paint a forest, a sea and a sunset: (side, side, 3) values in [0, 1], always the same."""
    random = np.random.default_rng(0)
    down, across = np.mgrid[0 : 1 : side * 1j, 0 : 1 : side * 1j]
    waves = 0.5 + 0.5 * np.sin(14 * across + 5 * np.sin(6 * down))
    leaves = 0.5 + 0.5 * np.sin(25 * across) * np.cos(31 * down)
    painted = {
        "forest": [0.1 + 0.35 * leaves * down, 0.25 + 0.5 * leaves, 0.05 + 0.25 * (1 - down)],
        "sea": [0.1 + 0.3 * waves * (1 - down), 0.35 + 0.35 * waves, 0.6 + 0.35 * (1 - down)],
        "sunset": [0.6 + 0.4 * (1 - down), 0.25 + 0.45 * down * waves, 0.15 + 0.3 * (1 - down)],
    }
    noise = {name: 0.03 * random.standard_normal((side, side, 3)) for name in painted}
    return {name: np.clip(np.stack(parts, axis=-1) + noise[name], 0, 1) for name, parts in painted.items()}


def palettes() -> Problem:
    """Return the pictures' pixels as three distributions of colours."""
    return Problem([_scaled(picture.reshape(-1, 3).astype(np.float32)) for picture in pictures().values()])


def _scaled(colors: Any) -> Any:
    """Colours of about unit variance, as the networks like them."""
    return (colors - 0.5) * _SCALE


def recoloured(solver: Any) -> dict[str, np.ndarray]:
    """Return the pictures with their pixels pushed to the barycenter, as pictures again."""
    painted = pictures()
    points = torch.stack([torch.as_tensor(_scaled(p.reshape(-1, 3)), dtype=torch.float32) for p in painted.values()])
    pushed = (solver.push(points) / _SCALE + 0.5).clamp(0, 1).numpy()
    return {name: made.reshape(painted[name].shape) for name, made in zip(painted, pushed, strict=True)}


def _cases(quick: bool) -> Iterator[Case]:
    problem = palettes()
    near = gaussian_barycenter(problem)

    def measure(solver: Any) -> dict[str, float]:
        pushed = solver.push(problem.sample(_COUNT, torch.Generator().manual_seed(19)))
        made = solver.sample(_COUNT)
        apart = [sliced_w2(first, second) for i, first in enumerate(pushed) for second in pushed[i + 1 :]]
        given = [problem.sample(_COUNT, torch.Generator().manual_seed(20))[i] for i in range(len(problem))]
        before = [sliced_w2(first, second) for i, first in enumerate(given) for second in given[i + 1 :]]
        return {
            "sliced W2 between recoloured pictures": float(np.mean(apart)),
            "sliced W2 between the pictures": float(np.mean(before)),
            "sliced W2 of generator to recoloured": float(np.mean([sliced_w2(made, images) for images in pushed])),
            "BW2-UVP to the barycenter of fitted Gaussians": bures_uvp(moments(made), near),
            "share outside the colour cube": float(((made / _SCALE).abs() > 0.5).any(dim=1).float().mean()),
        }

    def shown(solver: Any) -> dict[str, np.ndarray]:
        return {
            "painted": np.stack(list(pictures().values())),
            "recoloured": np.stack(list(recoloured(solver).values())),
        }

    settings = {"steps": 250 if quick else 1000, "width": 16, "batch": 300}
    yield solver_case("nwb", problem, "nwb", measure=measure, settings=settings, pictures=shown)


EXPERIMENTS.register("palettes")(
    Experiment(
        "Colour palettes of three pictures made here",
        "Fan, Taghvaei and Chen (2021), section 4.4, Figures 8 and 9",
        _cases,
    )
)
