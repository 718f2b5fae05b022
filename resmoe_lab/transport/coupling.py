"""Couplings from a ground cost: permutations where they are possible, plans where masses must be split."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from .._core.errors import UsageError, WeightError
from .assignment import assign

#: Pivots that POT's network simplex may take: it gives up silently at its own default of 100,000.
PIVOTS = 100_000_000
#: Sinkhorn's sweeps at most; how far off a marginal may be where it stops, and where it does not come to an end.
_SWEEPS, _SETTLED, _UNSETTLED = 2_000, 1e-3, 5e-2


@dataclass(frozen=True)
class Coupling:
    """How much of each of n points goes to each of m others.

    Attributes
    ----------
    plan
        (n, m) float64 on the CPU, summing to 1; row sums are `rows`, column sums `columns`.
    rows, columns
        (n,) and (m,) float64 masses, all positive.
    cost
        ``<plan, ground cost>``.
    permutation
        (m,) int64 if every column is filled by one row alone and the other way round: column j comes from row
        ``permutation[j]``. None where mass is split.
    """

    plan: Tensor
    rows: Tensor
    columns: Tensor
    cost: float
    permutation: Tensor | None = None

    def to_columns(self) -> Tensor:
        """Return ``plan / columns``, (n, m): each column a convex combination of rows, the barycentric projection."""
        return self.plan / self.columns

    def to_rows(self) -> Tensor:
        """Return ``plan / rows[:, None]``, (n, m): each row is spread over the columns, and none of it is lost."""
        return self.plan / self.rows[:, None]


def identity_coupling(size: int) -> Coupling:
    """Return the coupling that leaves `size` points of equal mass where they are."""
    return permutation_coupling(torch.arange(size))


def permutation_coupling(permutation: Tensor, cost: float = 0.0) -> Coupling:
    """Return the coupling of equal masses in which column j comes from row ``permutation[j]``."""
    size = len(permutation)
    masses = torch.full((size,), 1 / size, dtype=torch.float64)
    plan = torch.zeros(size, size, dtype=torch.float64)
    plan[permutation, torch.arange(size)] = 1 / size
    return Coupling(plan, masses, masses, cost, permutation)


def couple(
    cost: Tensor, *, rows: Tensor | None = None, columns: Tensor | None = None, regularization: float | None = None
) -> Coupling:
    """Find the coupling of least cost, or with `regularization` that of least cost minus entropy.

    Parameters
    ----------
    cost
        (n, m) of any float dtype.
    rows, columns
        (n,) and (m,) positive masses, scaled to sum 1; equal if left out. Equal masses of equally many points are
        matched one to one, exactly.
    regularization
        Sinkhorn's constant, in the unit of the cost.

    Raises
    ------
    WeightError
        If a cost is NaN or infinite, a mass is not positive, or a solver does not come to an end.
    UsageError
        If the constant is not positive.

    References
    ----------
    Model Fusion via Optimal Transport, equation (1).
    """
    if cost.ndim != 2 or 0 in cost.shape or not bool(torch.isfinite(cost).all()):
        raise WeightError(
            f"costs of shape {tuple(cost.shape)}, expected a finite matrix: check the weights behind them"
        )
    if regularization is not None and not regularization > 0:
        raise UsageError(f"regularization is {regularization}, expected a positive number, or none for exact transport")
    exact, uniform = regularization is None, rows is None and columns is None
    if exact and uniform and cost.shape[0] == cost.shape[1]:
        found = assign(cost.T)
        return permutation_coupling(found.permutation, found.cost / len(cost))
    given, taken = _masses(rows, cost.shape[0], "row"), _masses(columns, cost.shape[1], "column")
    plan = _exact(cost, given, taken) if regularization is None else _soft(cost, given, taken, regularization)
    # Sinkhorn's marginals are a little off: the plan's own keep convex combinations convex.
    return Coupling(plan, plan.sum(1), plan.sum(0), float((plan * cost.double().cpu()).sum()))


def _masses(masses: Tensor | None, size: int, side: str) -> Tensor:
    if masses is None:
        return torch.full((size,), 1 / size, dtype=torch.float64)
    masses = masses.double().cpu()
    if masses.shape != (size,) or not bool((torch.isfinite(masses) & (masses > 0)).all()):
        raise WeightError(f"{side} masses cannot be used, expected {size} positive numbers: leave out what has no mass")
    return masses / masses.sum()


def _exact(cost: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    import ot

    # Masses are given in float64: in float32 their sums differ, and nearly empty entries appear.
    plan, log = ot.emd(rows.numpy(), columns.numpy(), cost.double().cpu().numpy(), numItermax=PIVOTS, log=True)
    if log["warning"]:
        n, m = cost.shape
        raise WeightError(f"no optimal plan for {n} x {m} rows: {log['warning']}; check the weights they came from")
    return torch.from_numpy(plan)


def _soft(cost: Tensor, rows: Tensor, columns: Tensor, regularization: float) -> Tensor:
    import ot

    values = cost.double().cpu().numpy()
    stop = _SETTLED * float(columns.min())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its one warning is looked at below
        plan = ot.sinkhorn(
            rows.numpy(), columns.numpy(), values, regularization, "sinkhorn_log", numItermax=_SWEEPS, stopThr=stop
        )
    # The rows' marginal is exact after the last half-sweep: what has not settled shows in the columns'.
    off = float(np.abs(plan.sum(0) / columns.numpy() - 1).max())
    if not off < _UNSETTLED:
        raise WeightError(
            f"Sinkhorn has not settled after {_SWEEPS} sweeps at regularization {regularization:g}: a marginal is off "
            f"by {off:.1%}; the costs go up to {values.max():.3g}, take a larger constant or exact transport"
        )
    return torch.from_numpy(plan)
