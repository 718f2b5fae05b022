"""How a budget of bytes is best spread over the layers: one kept fraction a layer instead of one for all."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from .._core.errors import UsageError


@dataclass(frozen=True)
class Allocation:
    """The point of its error curve that each layer gets.

    Parameters
    ----------
    choices
        (L,) index of the selected point of each layer.
    nbytes
        Bytes of all layers together, at most the budget.
    loss
        Sum of the layers' errors.
    """

    choices: tuple[int, ...]
    nbytes: int
    loss: float


def allocate(losses: np.ndarray, sizes: np.ndarray, budget: float) -> Allocation:
    """Choose one point a layer so that the sum of the errors is least and the bytes fit into a budget.

    Parameters
    ----------
    losses : (L, K) float array
        Error of each layer at each of its points.
    sizes : (L, K) int array
        Bytes of each layer at each of its points.
    budget
        Bytes of all layers together.

    Returns
    -------
    Allocation
        The best one there is.

    Raises
    ------
    UsageError
        If not even the smallest points fit.

    Notes
    -----
    This is the multiple-choice knapsack problem, solved exactly as a mixed-integer program.
    """
    losses, sizes = np.asarray(losses, dtype=np.float64), np.asarray(sizes, dtype=np.int64)
    least = int(sizes.min(axis=1).sum())
    if least > budget:
        raise UsageError(f"a budget of {budget:,.0f} bytes is too small, expected at least {least:,}: raise it")
    selected = _solve(losses, sizes, budget)
    rows = np.arange(len(losses))
    return Allocation(tuple(selected.tolist()), int(sizes[rows, selected].sum()), float(losses[rows, selected].sum()))


def _solve(losses: np.ndarray, sizes: np.ndarray, budget: float) -> np.ndarray:
    from scipy.optimize import Bounds, LinearConstraint, milp
    from scipy.sparse import csr_array, kron

    layers, points = losses.shape
    one_each = kron(csr_array(np.eye(layers)), csr_array(np.ones((1, points))))
    # In units of the budget, and errors in units of the largest, so that the solver's tolerances mean something.
    weights, costs = sizes.ravel() / budget, losses.ravel() / (losses.max() or 1.0)
    solution = milp(
        costs,
        integrality=np.ones(losses.size),
        bounds=Bounds(0, 1),
        constraints=[LinearConstraint(one_each, 1, 1), LinearConstraint(weights[None], -math.inf, 1.0)],
        options={"mip_rel_gap": 1e-9},
    )
    selected = solution.x.reshape(layers, points).argmax(axis=1)
    # The solver lets a budget be passed by a rounding error; whoever asked for bytes gets no more than those.
    while sizes[np.arange(layers), selected].sum() > budget:
        selected = _trimmed(losses, sizes, selected)
    return selected


def _trimmed(losses: np.ndarray, sizes: np.ndarray, selected: np.ndarray) -> np.ndarray:
    """Make the one layer smaller for which that costs least."""
    rows = np.arange(len(selected))
    smaller = sizes < sizes[rows, selected][:, None]
    cost = np.where(smaller, losses - losses[rows, selected][:, None], math.inf)
    layer, point = np.unravel_index(cost.argmin(), cost.shape)
    trimmed = selected.copy()
    trimmed[layer] = point
    return trimmed


def allocate_keeps(errors: pd.DataFrame, sizes: pd.DataFrame, *, method: str, share: float) -> pd.DataFrame:
    """Give every layer its own kept fraction so that all fit into a share of the experts' bytes.

    Parameters
    ----------
    errors, sizes
        The tables of a sweep (or of the errors panel): one center a method.
    method
        Whose kept fractions are selected.
    share
        Budget, as a share of the original experts' bytes.

    Returns
    -------
    pandas.DataFrame
        Columns ``layer, keep, relative_error, true_bytes`` as allocated, and ``uniform_keep, uniform_error,
        uniform_bytes`` of the largest kept fraction that fits when all layers have the same.

    Raises
    ------
    UsageError
        If the tables do not hold the method, or nothing fits.
    """
    rows_of_method = sizes[sizes["method"] == method].drop_duplicates("keep")
    curves = errors[errors["method"] == method].pivot_table(index="layer", columns="keep", values="relative_error")
    if rows_of_method.empty or curves.empty:
        raise UsageError(f"method {method!r} is not in these tables: choose from {', '.join(_methods(errors))}")
    keeps = [keep for keep in curves.columns if keep in set(rows_of_method["keep"])]
    losses = curves[keeps].to_numpy()
    # All MoE layers of a model have one shape, so a kept fraction takes the same bytes in each.
    one = (rows_of_method.set_index("keep")["true_bytes"].reindex(keeps) // len(curves)).to_numpy()
    budget = share * float(rows_of_method["original_bytes"].iloc[0])
    allocation = allocate(losses, np.tile(one, (len(curves), 1)), budget)
    uniform = _uniform(losses, one, budget)
    rows = [
        (layer, keeps[point], losses[i, point], one[point], keeps[uniform], losses[i, uniform], one[uniform])
        for i, (layer, point) in enumerate(zip(curves.index, allocation.choices, strict=True))
    ]
    columns = ["layer", "keep", "relative_error", "true_bytes", "uniform_keep", "uniform_error", "uniform_bytes"]
    return pd.DataFrame(rows, columns=columns)


def _uniform(losses: np.ndarray, one: np.ndarray, budget: float) -> int:
    """The point with the least error that fits when every layer has it."""
    fits = np.flatnonzero(len(losses) * one <= budget)
    return int(fits[losses.sum(axis=0)[fits].argmin()])


def _methods(errors: pd.DataFrame) -> Sequence[str]:
    return list(dict.fromkeys(errors["method"]))
