"""The Wasserstein barycenter of experts that do not count alike."""

from __future__ import annotations

from typing import Any

import torch

from .._core.progress import Progress
from ..experts import ExpertStack
from ..transport import barycenter, objective
from ._base import Center


def weighted_barycenter(
    stack: ExpertStack, weights: torch.Tensor, *, name: str, progress: Progress, **options: Any
) -> Center:
    """Find the barycenter for (N,) weights, and say its objective as for any other center, with equal ones.

    The certificate would bound the weighted objective, so there is none.
    """
    found = barycenter(stack.weights, weights=weights, certify=False, progress=progress, **options)
    return Center(
        name=name,
        matrix=found.center,
        permutations=found.permutations,
        objective=objective(stack.weights, found.permutations, found.center),
        solver=found.solver,
        history=found.history,
        iterations=found.iterations,
        seconds=found.seconds,
        certificate=None,
    )
