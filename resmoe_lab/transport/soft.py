"""Barycenters of experts with different numbers of neurons: soft plans instead of permutations."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .._core.errors import UsageError, WeightError
from .._core.progress import Progress, Tick, silent
from .cost import squared_distances
from .coupling import couple
from .problem import check_expert, check_shares
from .result import Step


@dataclass(frozen=True)
class SoftBarycenter:
    """A center of experts that may differ in size.

    Attributes
    ----------
    center
        (m, D) float32, on the device of the experts.
    plans
        One (m, p_k) float64 CPU tensor per expert: how much of center row i is matched with row j. Rows sum to 1/m,
        columns to 1/p_k.
    objective
        ``sum_k w_k W2^2(center, W_k)`` with unit mass on each side; for experts of one size, m times it is the
        objective of :class:`~resmoe_lab.transport.Barycenter`.
    history
        One record per round; `changed` counts plan entries that appeared or vanished.
    seconds
        Wall time.
    """

    center: Tensor
    plans: tuple[Tensor, ...]
    objective: float
    history: tuple[Step, ...]
    seconds: float

    def aligned(self, expert: Tensor, index: int) -> Tensor:
        """Return expert `index` (p_k, D) carried over to the center's rows, (m, D) float32: the barycentric image."""
        plan = self.plans[index].to(expert.device, torch.float32)
        return len(self.center) * (plan @ expert.float())


def transport_plan(a: Tensor, b: Tensor) -> tuple[Tensor, float]:
    """Optimal plan between two clouds of rows with uniform masses, whatever their sizes.

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
    """
    found = couple(squared_distances(a, b))
    return found.plan, found.cost


def soft_barycenter(
    experts: Sequence[Tensor],
    *,
    start: int = 0,
    weights: Tensor | Sequence[float] | None = None,
    max_iterations: int = 100,
    tolerance: float = 1e-9,
    progress: Progress = silent,
) -> SoftBarycenter:
    """Find the free-support barycenter of experts of any sizes, by alternating plans and barycentric images.

    Parameters
    ----------
    experts
        N matrices (p_k, D); the p_k may differ, D may not.
    start
        Expert that the center begins as; the center keeps its number of rows.
    weights
        (N,) importance of the experts; equal if left out.
    max_iterations
        Rounds at most.
    tolerance
        Stop when a round lowers the objective by less than this share.
    progress
        Ticks after every plan.

    Raises
    ------
    WeightError
        If an expert cannot be used or widths differ.
    UsageError
        If an argument is outside what is allowed.
    """
    began = time.perf_counter()
    shares = _checked(experts, start=start, weights=weights, max_iterations=max_iterations)
    center = experts[start].float()
    steps: list[Step] = []
    support: list[Tensor] = []
    while True:
        plans, value = _all_plans(center, experts, shares=shares, progress=progress, done=len(steps) * len(experts))
        before, support = support, [plan > 0 for plan in plans]
        changed = sum(int((old != new).sum()) for old, new in zip(before, support, strict=False))
        steps.append(Step("soft", len(steps) + 1, value, time.perf_counter() - began, changed))
        stalled = len(steps) > 1 and steps[-2].objective - value <= tolerance * steps[-2].objective
        if stalled or len(steps) > max_iterations:
            return SoftBarycenter(center, tuple(plans), value, tuple(steps), time.perf_counter() - began)
        images = [len(center) * (plan.to(center) @ rows.float()) for plan, rows in zip(plans, experts, strict=True)]
        center = torch.stack([share * image for share, image in zip(shares, images, strict=True)]).sum(0)


def _all_plans(
    center: Tensor, experts: Sequence[Tensor], *, shares: list[float], progress: Progress, done: int
) -> tuple[list[Tensor], float]:
    plans, value = [], 0.0
    for index, (rows, share) in enumerate(zip(experts, shares, strict=True), start=1):
        plan, cost = transport_plan(center, rows)
        plans.append(plan)
        value += share * cost
        progress(Tick("soft barycenter", done + index, None))
    return plans, value


def _checked(
    experts: Sequence[Tensor], *, start: int, weights: Tensor | Sequence[float] | None, max_iterations: int
) -> list[float]:
    if not len(experts):
        raise WeightError("no expert to find a center of, expected at least one: check the layer that was asked for")
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
    return check_shares(weights, len(experts)).tolist()
