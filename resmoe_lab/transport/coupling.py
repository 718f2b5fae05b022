"""Couplings of a ground cost: permutations where they are possible, transport plans where masses must be split."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from .._core.errors import UsageError, WeightError
from .assignment import assign

#: Pivots that POT's network simplex may take; it stops without an error at its own default of 100,000.
PIVOTS = 100_000_000
#: Sinkhorn's maximum of iterations, the marginal error where it stops, and the error from which it has not converged.
_SINKHORN_ITERATIONS, _CONVERGED_ERROR, _MAX_MARGINAL_ERROR = 2_000, 1e-3, 5e-2


@dataclass(frozen=True)
class Coupling:
    """A transport plan between n points and m others, with its masses and cost.

    Attributes
    ----------
    plan
        (n, m) float64 on the CPU, summing to 1; row sums are `rows`, column sums `columns`.
    rows, columns
        (n,) and (m,) float64 masses, all positive.
    cost
        ``<plan, ground cost>``.
    permutation
        (m,) int64 if the plan matches rows and columns one to one: column j comes from row ``permutation[j]``. None if
        mass is split.
    """

    plan: Tensor
    rows: Tensor
    columns: Tensor
    cost: float
    permutation: Tensor | None = None

    def to_columns(self) -> Tensor:
        """Return ``plan / columns``, (n, m): the barycentric projection; columns sum to 1."""
        return self.plan / self.columns

    def to_rows(self) -> Tensor:
        """Return ``plan / rows[:, None]``, (n, m): how each row's mass is distributed; rows sum to 1."""
        return self.plan / self.rows[:, None]


def identity_coupling(size: int) -> Coupling:
    """Return the coupling that matches each of `size` points of equal mass with itself.

    Parameters
    ----------
    size
        Number of points.

    Returns
    -------
    Coupling
        With the identity as its permutation, and cost 0.

    Examples
    --------
    >>> identity_coupling(3).permutation
    tensor([0, 1, 2])
    """
    return permutation_coupling(torch.arange(size))


def permutation_coupling(permutation: Tensor, cost: float = 0.0) -> Coupling:
    """Return the coupling of equal masses in which column j comes from row ``permutation[j]``.

    Parameters
    ----------
    permutation
        (n,) int64.
    cost
        What the coupling costs.

    Returns
    -------
    Coupling
        One-to-one, with uniform masses 1/n.

    Examples
    --------
    >>> permutation_coupling(torch.tensor([1, 0])).plan
    tensor([[0.0000, 0.5000],
            [0.5000, 0.0000]], dtype=torch.float64)
    """
    size = len(permutation)
    masses = torch.full((size,), 1 / size, dtype=torch.float64)
    plan = torch.zeros(size, size, dtype=torch.float64)
    plan[permutation, torch.arange(size)] = 1 / size
    return Coupling(plan, masses, masses, cost, permutation)


def couple(
    cost: Tensor, *, rows: Tensor | None = None, columns: Tensor | None = None, regularization: float | None = None
) -> Coupling:
    """Solve optimal transport exactly, or with `regularization` its entropic relaxation by Sinkhorn's algorithm.

    Parameters
    ----------
    cost
        (n, m) of any float dtype.
    rows, columns
        (n,) and (m,) positive masses, scaled to sum 1 (default: equal). Equal masses of equally many points are matched
        one to one.
    regularization
        Sinkhorn's entropic regularization, in the unit of the cost (default: exact transport).

    Raises
    ------
    WeightError
        If a cost is NaN or infinite, a mass is not positive, or a solver does not converge.
    UsageError
        If the regularization is not positive.

    References
    ----------
    Model Fusion via Optimal Transport, equation (1).

    Examples
    --------
    >>> coupling = couple(torch.tensor([[0.0, 1.0, 4.0], [4.0, 1.0, 0.0]]))
    >>> coupling.cost
    0.3333333333333333
    """
    if cost.ndim != 2 or 0 in cost.shape or not bool(torch.isfinite(cost).all()):
        raise WeightError(
            f"costs of shape {tuple(cost.shape)}, expected a finite matrix: check the weights they were computed from"
        )
    if regularization is not None and not regularization > 0:
        raise UsageError(f"regularization is {regularization}, expected a positive number, or None for exact transport")
    exact, uniform = regularization is None, rows is None and columns is None
    if exact and uniform and cost.shape[0] == cost.shape[1]:
        assignment = assign(cost.T)
        return permutation_coupling(assignment.permutation, assignment.cost / len(cost))
    row_masses, column_masses = _masses(rows, cost.shape[0], "row"), _masses(columns, cost.shape[1], "column")
    if regularization is None:
        plan = _exact(cost, row_masses, column_masses)
    else:
        plan = _sinkhorn(cost, row_masses, column_masses, regularization)
    # Sinkhorn's marginals are approximate: with the plan's own, convex combinations stay convex.
    return Coupling(plan, plan.sum(1), plan.sum(0), float((plan * cost.double().cpu()).sum()))


def _masses(masses: Tensor | None, size: int, side: str) -> Tensor:
    if masses is None:
        return torch.full((size,), 1 / size, dtype=torch.float64)
    masses = masses.double().cpu()
    if masses.shape != (size,) or not bool((torch.isfinite(masses) & (masses > 0)).all()):
        raise WeightError(
            f"{side} masses cannot be used, expected {size} positive numbers: leave out points without mass"
        )
    return masses / masses.sum()


def _exact(cost: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    import ot

    # Neither what a row shares nor a factor changes the plan, but the simplex compares costs with its own tolerances.
    values = cost.double().cpu()
    values = values - values.amin(1, keepdim=True)
    values = values * 2.0 ** -math.frexp(float(values.max()))[1]
    # Masses are float64: in float32 their sums differ, and entries near zero appear.
    plan, log = ot.emd(rows.numpy(), columns.numpy(), values.numpy(), numItermax=PIVOTS, log=True)
    if log["warning"]:
        n, m = cost.shape
        raise WeightError(
            f"no optimal plan for {n} x {m} rows: {log['warning']}; check the weights they were computed from"
        )
    return torch.from_numpy(plan)


def _sinkhorn(cost: Tensor, rows: Tensor, columns: Tensor, regularization: float) -> Tensor:
    import ot

    values = cost.double().cpu().numpy()
    values = values - values.min()  # what all costs share changes no plan, but would cost digits
    tolerance = _CONVERGED_ERROR * float(columns.min())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # convergence is checked below
        plan = ot.sinkhorn(
            rows.numpy(),
            columns.numpy(),
            values,
            regularization,
            "sinkhorn_log",
            numItermax=_SINKHORN_ITERATIONS,
            stopThr=tolerance,
        )
    # The row marginal is exact after the last half-iteration: only the column marginal shows a lack of convergence.
    marginal_error = float(np.abs(plan.sum(0) / columns.numpy() - 1).max())
    if not marginal_error < _MAX_MARGINAL_ERROR:
        raise WeightError(
            f"Sinkhorn has not converged after {_SINKHORN_ITERATIONS} iterations at regularization "
            f"{regularization:g}: a marginal is off by {marginal_error:.1%}; the costs go up to {values.max():.3g}, "
            "take a larger regularization or exact transport"
        )
    return torch.from_numpy(plan)
