"""What every way of finding a common expert returns, and the registry of the ways."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch

from .._core.registry import Registry
from ..experts import ExpertStack
from ..transport import Certificate


@dataclass(frozen=True)
class CommonExpert:
    """A common expert and the permutations that align every expert with it.

    Parameters
    ----------
    name
        The way it was found (a key of the registry of centers).
    center
        (p_I, D) float32 tensor.
    permutations
        (N, p_I) int64 tensor: row i of the aligned expert k is row ``permutations[k, i]`` of W_k.
    objective
        (1/N) sum_k ||W_k[T_k] - center||_F^2, the approximation error with no residual kept.
    solver
        What computed it.
    history
        Objective after each step, where there were steps.
    iterations, seconds
        How much work it took.
    certificate
        Lower bound and gap, where they were computed.
    """

    name: str
    center: torch.Tensor
    permutations: torch.Tensor
    objective: float
    solver: str
    history: tuple[Any, ...]
    iterations: int
    seconds: float
    certificate: Certificate | None

    def residuals(self, stack: ExpertStack) -> Iterator[torch.Tensor]:
        """Yield the (p_I, D) residual R_k = W_k[T_k] - center of each expert, one at a time."""
        for weights, permutation in zip(stack.weights, self.permutations, strict=True):
            yield weights[permutation.to(weights.device)] - self.center


#: A way to find a common expert: ``center(stack, *, seed, progress, ...)``, with options of its own.
Center = Callable[..., CommonExpert]
CENTERS: Registry[Center] = Registry("center", "resmoe_lab.centers")
