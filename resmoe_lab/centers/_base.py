"""What every way of finding a common expert returns, and the registry of the ways."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch

from .._core.registry import Registry
from ..experts import ExpertStack
from ..transport import Certificate, objective
from ..transport.cost import BUFFER_ENTRIES, blocks


@dataclass(frozen=True)
class Center:
    """A common expert and the permutations that align every expert with it.

    Parameters
    ----------
    name
        The way it was found (a key of the registry of centers).
    matrix
        (p_I, D) float32 tensor: the common expert.
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
    outputs
        (N, p) int64 where the experts' outputs are permuted too: output j of the center as expert k has it is the
        center's output ``outputs[k, j]``. None: the outputs stay as they are.
    stored
        Whether there is anything to store: not where the center is none at all.
    """

    name: str
    matrix: torch.Tensor
    permutations: torch.Tensor
    objective: float
    solver: str
    history: tuple[Any, ...]
    iterations: int
    seconds: float
    certificate: Certificate | None
    outputs: torch.Tensor | None = None
    stored: bool = True

    def expert(self, k: int) -> torch.Tensor:
        """Return the (p_I, D) center as expert k has it: with the expert's order of outputs in the columns of W2^T."""
        if self.outputs is None:
            return self.matrix
        start = self.matrix.shape[1] - self.outputs.shape[1]
        order = self.outputs[k].to(self.matrix.device) + start
        return torch.cat([self.matrix[:, :start], self.matrix[:, order]], dim=1)

    def residuals(self, stack: ExpertStack) -> Iterator[torch.Tensor]:
        """Yield the (p_I, D) residual R_k = W_k[T_k] - center of each expert, one at a time."""
        for k, (weights, permutation) in enumerate(zip(stack.weights, self.permutations, strict=True)):
            yield weights[permutation.to(weights.device)].sub_(self.expert(k))


def mean_of(stack: ExpertStack, permutations: torch.Tensor, *, name: str, begun: float) -> Center:
    """Return the mean of the experts in given (N, p_I) orders as a common expert.

    Parameters
    ----------
    stack, permutations
        The experts, and the order of each one's rows.
    name
        The way the orders were found.
    begun
        When, by ``time.perf_counter``.
    """
    center, orders = torch.empty_like(stack.weights[0]), permutations.to(stack.weights.device)
    # A whole matrix in float64 would be the largest thing in memory.
    for part in blocks(*center.shape, entries=BUFFER_ENTRIES):
        total = torch.zeros_like(center[part], dtype=torch.float64)
        for weights, order in zip(stack.weights, orders, strict=True):
            total += weights[order[part]]
        center[part] = total / stack.num_experts
    return Center(
        name=name,
        matrix=center,
        permutations=permutations,
        objective=objective(stack.weights, permutations, center),
        solver=name,
        history=(),
        iterations=1,
        seconds=time.perf_counter() - begun,
        certificate=None,
    )


#: A way to find a common expert: ``center(stack, *, seed, progress, statistics, ...)``.
CenterFunction = Callable[..., Center]
CENTERS: Registry[CenterFunction] = Registry("center", "resmoe_lab.centers")
