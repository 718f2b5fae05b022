"""Pictures as distributions of colours: the trainings and error metrics of palettes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from ..metrics import bures_uvp, gaussian_barycenter, moments, sliced_w2
from ..problem import Problem
from ..sample_metrics import kernel_mmd
from ._base import Case, solver_case

#: Points of the metrics, and of the kernel distance, which takes their square.
_COUNT, _KERNEL_COUNT, _SCALE = 4000, 1000, 5.0


def scaled(colors: Any) -> Any:
    """Return colours scaled to about unit variance."""
    return (colors - 0.5) * _SCALE


def recolored(solver: Any, images: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return pictures with their pixels mapped to the barycenter.

    Parameters
    ----------
    solver
        The trained solver.
    images
        (n, height, width, 3) pictures of each marginal, in its order, of one shape.
    """
    points = torch.stack([torch.as_tensor(scaled(p.reshape(-1, 3)), dtype=torch.float32) for p in images.values()])
    pushed = (solver.push(points) / _SCALE + 0.5).clamp(0, 1).numpy()
    return {name: image.reshape(images[name].shape) for name, image in zip(images, pushed, strict=True)}


def palette_case(label: str, problem: Problem, images: Mapping[str, np.ndarray], *, quick: bool) -> Case:
    """Return the training of NWB on palettes; `images` are shown before and after, see :func:`recolored`."""
    gaussian = gaussian_barycenter(problem)

    def measure(solver: Any) -> dict[str, float]:
        pushed = solver.push(problem.sample(_COUNT, torch.Generator().manual_seed(19)))
        generated = solver.sample(_COUNT)
        after = [sliced_w2(first, second) for i, first in enumerate(pushed) for second in pushed[i + 1 :]]
        sources = [problem.sample(_COUNT, torch.Generator().manual_seed(20))[i] for i in range(len(problem))]
        before = [sliced_w2(first, second) for i, first in enumerate(sources) for second in sources[i + 1 :]]
        mmd = kernel_mmd(generated[:_KERNEL_COUNT].detach(), pushed[0][:_KERNEL_COUNT].detach())
        return {
            "sliced W2 between recoloured pictures": float(np.mean(after)),
            "sliced W2 between the pictures": float(np.mean(before)),
            "sliced W2 of generator to recoloured": float(np.mean([sliced_w2(generated, own) for own in pushed])),
            "MMD^2 of generator to the first recoloured": mmd.value,
            "MMD^2, low": mmd.low,
            "MMD^2, high": mmd.high,
            "BW2-UVP to the barycenter of fitted Gaussians": bures_uvp(moments(generated), gaussian),
            "share outside the colour cube": float(((generated / _SCALE).abs() > 0.5).any(dim=1).float().mean()),
        }

    def picture_rows(solver: Any) -> dict[str, np.ndarray]:
        return {
            "images": np.concatenate(list(images.values())),
            "recoloured": np.concatenate(list(recolored(solver, images).values())),
        }

    settings = {"steps": 250 if quick else 1000, "width": 16, "batch": 300}
    return solver_case(label, problem, "nwb", measure=measure, settings=settings, pictures=picture_rows)
