"""Ave, celeba!: faces seen in three ways, whose barycenter is the faces themselves."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import scipy.fft
import torch
from torch import Tensor

from ..._core.datasets import find_data
from ..faces import faces
from ..metrics import l2_uvp, sliced_w2
from ..problem import Problem, Sampler, Samples
from ._base import EXPERIMENTS, PICTURES_PER_ROW, Case, Experiment, solver_case

#: Table 4 of the paper, rows "Ave Celeba"; its pictures have 64 x 64 pixels and its networks are convolutional.
WEIGHTS = (0.25, 0.5, 0.25)
_SHAPE, _COLOR = 0.4, 0.4
#: Values in [0, 1] become (value - 0.5) * 4, of about unit variance.
_SCALE = 4.0
_LONG: dict[str, Any] = {"side": 16, "count": 20_000, "steps": 3000, "width": 512}
_QUICK: dict[str, Any] = {"side": 8, "count": 2000, "steps": 60, "width": 64}


def filters(side: int) -> list[Tensor]:
    """Return three symmetric, positive definite maps of pictures whose weighted mean is the identity.

    Each changes how strong fine structure is and how strong colour differences are. As the gradients of convex
    potentials that average to the identity, they take a distribution to three others whose barycenter it is.

    Parameters
    ----------
    side
        Pixels of a side.

    Returns
    -------
    list of Tensor
        (D, D) float64 with D = 3 * side * side, in the order of :data:`WEIGHTS`.

    References
    ----------
    Agueh and Carlier, Barycenters in the Wasserstein space (2011), proposition 3.8. Kolesov et al. take gradients of
    convex networks, from Korotin et al. (2022).
    """
    cosines = scipy.fft.dct(np.eye(side), axis=0, norm="ortho")
    frequency = np.add.outer(np.arange(side), np.arange(side)) / max(1, 2 * (side - 1))  # 0 coarse, 1 fine
    waves = np.kron(cosines, cosines)
    fine = np.kron((waves.T * (2 * frequency.ravel() - 1)) @ waves, np.eye(3))
    gray = np.full((3, 3), 1 / 3)
    color = np.kron(np.eye(side * side), 2 * gray - np.eye(3))  # 1 for gray values, -1 for differences of colours
    first, second = _SHAPE * fine + _COLOR * color, -_SHAPE * fine
    last = -(WEIGHTS[0] * first + WEIGHTS[1] * second) / WEIGHTS[2]
    return [torch.from_numpy(np.eye(len(fine)) + change) for change in (first, second, last)]


def seen_faces(pictures: Tensor, maps: list[Tensor]) -> Problem:
    """Return the three distributions of mapped faces."""
    source = Samples(_scaled(pictures))

    def through(matrix: Tensor) -> Callable[[int, torch.Generator], Tensor]:
        return lambda count, generator: source.sample(count, generator) @ matrix.float()

    return Problem([Sampler(through(matrix), source.dimension) for matrix in maps], WEIGHTS)


def _scaled(pictures: Tensor) -> Tensor:
    return (pictures - 0.5) * _SCALE


def _measure(truth: Tensor, maps: list[Tensor]) -> Callable[[Any], dict[str, float]]:
    """Return the metrics on faces that no training has seen: the inverse maps are the truth."""
    sources = torch.stack([truth @ matrix.float() for matrix in maps])
    variance = float(truth.double().var(dim=0).sum())

    def errors(images: Tensor) -> float:
        return sum(w * l2_uvp(own, truth, variance) for w, own in zip(WEIGHTS, images, strict=True))

    def measure(solver: Any) -> dict[str, float]:
        images = solver.push(sources).detach()
        return {
            "L2-UVP of maps": errors(images),
            "L2-UVP without maps": errors(sources),
            "sliced W2 to faces": float(np.mean([sliced_w2(own, truth) for own in images])),
            "sliced W2 without maps": float(np.mean([sliced_w2(own, truth) for own in sources])),
        }

    return measure


def _picture_rows(truth: Tensor, maps: list[Tensor], side: int) -> Callable[[Any], dict[str, np.ndarray]]:
    def rows(solver: Any) -> dict[str, np.ndarray]:
        shown = truth[:PICTURES_PER_ROW]
        sources = torch.stack([shown @ matrix.float() for matrix in maps])
        images = solver.push(sources).detach()
        named = {"faces": shown}
        for number, (source, image) in enumerate(zip(sources, images, strict=True), start=1):
            named |= {f"seen in way {number}": source, f"mapped from way {number}": image}
        return {
            name: (row / _SCALE + 0.5).clamp(0, 1).unflatten(-1, (side, side, 3)).numpy() for name, row in named.items()
        }

    return rows


def _cases(quick: bool, data: Path | None = None) -> Iterator[Case]:
    folder = data if data is not None else find_data("celeba")
    size = _QUICK if quick else _LONG
    side, count = size["side"], size["count"]
    maps = filters(side)
    problem = seen_faces(faces(folder, "train", side=side, count=count), maps)
    truth = _scaled(faces(folder, "test", side=side, count=count // 10))
    yield solver_case(
        f"{side} x {side} pixels",
        problem,
        "not",
        measure=_measure(truth, maps),
        settings={"steps": size["steps"], "width": size["width"], "batch": 64},
        pictures=_picture_rows(truth, maps, side),
    )


EXPERIMENTS.register("celeba")(
    Experiment(
        "Faces with a known barycenter, at few pixels and with networks of dense layers",
        "Kolesov et al. (2024), section 5.3, Tables 2, 6 and 7, with linear maps in place of convex networks",
        _cases,
        reads_folder=True,
    )
)
