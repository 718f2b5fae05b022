"""Barycenters of experts with different numbers of neurons: transport plans instead of permutations."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .._core.errors import UsageError, WeightError
from .._core.progress import Progress, Tick, silent
from .cost import distances_between, scaled_distances
from .coupling import couple
from .problem import check_expert, normalized_weights
from .result import Step
from .rows import Rows, normalized


@dataclass(frozen=True)
class SoftBarycenter:
    """A center of experts that may differ in size.

    Attributes
    ----------
    center
        (m, D) float32, on the device of the experts.
    plans
        One (m, p_k) float64 CPU tensor per expert: the mass that center row i sends to row j. Rows sum to 1/m, columns
        to 1/p_k.
    objective
        ``sum_k w_k W2^2(center, W_k)`` with unit mass on each side; for experts of one size, m times it is the
        objective of :class:`~resmoe_lab.transport.Barycenter`.
    history
        One record per round; `changed` counts plan entries that became zero or nonzero.
    seconds
        Wall time.
    """

    center: Tensor
    plans: tuple[Tensor, ...]
    objective: float
    history: tuple[Step, ...]
    seconds: float

    def aligned(self, expert: Tensor, index: int) -> Tensor:
        """Return the barycentric projection of expert `index` (p_k, D) onto the center's rows, (m, D) float32."""
        plan = self.plans[index].to(expert.device, torch.float32)
        return len(self.center) * (plan @ expert.float())


def transport_plan(a: Tensor, b: Tensor) -> tuple[Tensor, float]:
    """Compute the optimal plan between two point clouds of any sizes, with uniform masses.

    Parameters
    ----------
    a, b
        (n, D) and (m, D), of any float dtype.

    Returns
    -------
    plan, cost
        (n, m) float64 with marginals 1/n and 1/m, and the squared Wasserstein distance.

    References
    ----------
    Equation (2) of the paper's appendix C.

    Examples
    --------
    >>> plan, cost = transport_plan(torch.tensor([[0.0], [1.0]]), torch.tensor([[1.0]]))
    >>> cost
    0.5
    """
    distances, unit = scaled_distances(a, b)
    coupling = couple(distances)
    return coupling.plan, coupling.cost * unit


def soft_barycenter(
    experts: Sequence[Tensor],
    *,
    start: int = 0,
    weights: Tensor | Sequence[float] | None = None,
    max_iterations: int = 100,
    tolerance: float = 1e-9,
    progress: Progress = silent,
) -> SoftBarycenter:
    """Find the free-support barycenter of experts of any sizes, by alternating plans and barycentric projections.

    Parameters
    ----------
    experts
        N matrices (p_k, D); the p_k may differ, D may not.
    start
        Expert that is the initial center; the center keeps its number of rows.
    weights
        (N,) importance of the experts (default: equal).
    max_iterations
        Maximum number of rounds.
    tolerance
        Stop when a round lowers the objective by less than this fraction.
    progress
        Called after every plan.

    Returns
    -------
    SoftBarycenter
        The center, the plans and the objective.

    Raises
    ------
    WeightError
        If an expert is not a finite float matrix or widths differ.
    UsageError
        If an argument is out of range.

    Examples
    --------
    >>> experts = [torch.tensor([[0.0], [4.0]]), torch.tensor([[0.0], [0.0], [4.0], [4.0]])]
    >>> soft_barycenter(experts).objective
    0.0
    """
    started = time.perf_counter()
    weights = _check_arguments(experts, start=start, weights=weights, max_iterations=max_iterations)
    clouds = normalized(experts, together=True)
    unit, shift = clouds[start].scale ** -2, clouds[start].shift
    center = clouds[start].block().float()
    steps: list[Step] = []
    support: list[Tensor] = []
    while True:
        plans, objective = _transport_plans(
            center, clouds, weights=weights, progress=progress, done=len(steps) * len(experts)
        )
        objective *= unit
        previous, support = support, [plan > 0 for plan in plans]
        changed = sum(int((old != new).sum()) for old, new in zip(previous, support, strict=False))
        steps.append(Step("soft", len(steps) + 1, objective, time.perf_counter() - started, changed))
        stalled = len(steps) > 1 and steps[-2].objective - objective <= tolerance * steps[-2].objective
        if stalled or len(steps) > max_iterations:
            center = (center.double() / clouds[start].scale + (0 if shift is None else shift)).float()
            return SoftBarycenter(center, tuple(plans), objective, tuple(steps), time.perf_counter() - started)
        projections = [
            len(center) * (plan.to(center) @ rows.block().float()) for plan, rows in zip(plans, clouds, strict=True)
        ]
        center = torch.stack(
            [weight * projection for weight, projection in zip(weights, projections, strict=True)]
        ).sum(0)


def _transport_plans(
    center: Tensor, clouds: Sequence[Rows], *, weights: list[float], progress: Progress, done: int
) -> tuple[list[Tensor], float]:
    plans, objective = [], 0.0
    for index, (rows, weight) in enumerate(zip(clouds, weights, strict=True), start=1):
        coupling = couple(distances_between(Rows(center), rows))
        plans.append(coupling.plan)
        objective += weight * coupling.cost
        progress(Tick("soft barycenter", done + index, None))
    return plans, objective


def _check_arguments(
    experts: Sequence[Tensor], *, start: int, weights: Tensor | Sequence[float] | None, max_iterations: int
) -> list[float]:
    if not len(experts):
        raise WeightError("no expert to find a center of, expected at least one: check which layer was selected")
    for index, rows in enumerate(experts):
        check_expert(rows, index)
        if rows.shape[1] != experts[0].shape[1]:
            raise WeightError(
                f"expert {index} has {rows.shape[1]} columns and expert 0 {experts[0].shape[1]}, "
                "expected one width for all: compare layers of one hidden size"
            )
    if not 0 <= start < len(experts):
        raise UsageError(f"start is {start!r}, expected an expert from 0 to {len(experts) - 1}")
    if max_iterations < 1:
        raise UsageError(f"max_iterations is {max_iterations}, expected at least 1")
    return normalized_weights(weights, len(experts)).tolist()
