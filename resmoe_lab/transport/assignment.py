"""Exact one-to-one matching of neurons, with the dual potentials that prove it."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from .._core.errors import UsageError, WeightError

#: Costs: float64 where they are given so, else float32.
Costs = NDArray[np.float32] | NDArray[np.float64]
#: What a backend returns: the column of every row, and the column potentials if it computes them.
_Solution = tuple[NDArray[np.int64], NDArray[np.float64] | None]
#: Rows that are processed at a time.
_ROWS = 256
#: With fewer rows than this, every solver is done before ours would be loaded.
_FEW_ROWS = 512


@dataclass(frozen=True)
class Assignment:
    """An optimal one-to-one assignment.

    Attributes
    ----------
    permutation
        (n,) int64 CPU tensor: row i is matched with column ``permutation[i]``.
    row_potential, col_potential
        (n,) float64 CPU tensors with ``row_potential[i] + col_potential[j] <= cost[i, j]`` for all i and j;
        their sum is a lower bound of every assignment's cost, and reaches this one's.
    cost
        The matched entries' sum, float64.
    """

    permutation: Tensor
    row_potential: Tensor
    col_potential: Tensor
    cost: float


def assign(cost: Tensor | NDArray, *, backend: str = "auto", potential: Tensor | None = None) -> Assignment:
    """Solve the linear assignment problem exactly: match every row with one column at the least total cost.

    Parameters
    ----------
    cost
        (n, n) of any float dtype. Solved in its precision, and in float32 if it has less, with sums in float64: what
        all entries of a row or of a column share costs no digits.
    backend
        ``"native"`` (ours), ``"lapjv"``, ``"lapx"``, ``"scipy"``, or ``"auto"``: the fastest that is installed.
    potential
        (n,) column potentials of a similar problem, as a warm start: they change the time, not the result.

    Returns
    -------
    Assignment
        The permutation and dual potentials, feasible by construction (the rows' are a c-transform in float64).

    Raises
    ------
    WeightError
        If a cost is NaN or infinite, or the matrix is not square.
    UsageError
        If the backend is unknown or not installed.

    Examples
    --------
    >>> assignment = assign(torch.tensor([[4.0, 1.0], [2.0, 8.0]]))
    >>> assignment.permutation, assignment.cost
    (tensor([1, 0]), 3.0)
    """
    matrix = _square(cost)
    assignment = solve(matrix.copy(), potential, backend=backend)
    # The potentials are of the reduced matrix, which was rounded; those of the rows are feasible for the given one.
    rows = c_transform(matrix, assignment.col_potential.numpy())
    total_cost = float(matrix[np.arange(len(matrix)), assignment.permutation.numpy()].sum(dtype=np.float64))
    return Assignment(assignment.permutation, torch.from_numpy(rows), assignment.col_potential, total_cost)


def solve(matrix: Costs, potential: Tensor | None = None, *, backend: str = "auto") -> Assignment:
    """Solve an assignment problem; most solvers reduce the matrix in place, by a given potential of its columns."""
    solver = _backend(backend, len(matrix))
    if len(matrix) == 0:
        empty = torch.zeros(0, dtype=torch.float64)
        return Assignment(empty.long(), empty, empty, 0.0)
    check_finite(matrix)
    given = None if potential is None else potential.numpy()
    if solver is _native:
        columns, potentials = _native(matrix, given)
        rows = c_transform(matrix, potentials)
        total = matrix[np.arange(len(matrix)), columns].sum(dtype=np.float64)
    else:
        row_shift, column_shift = _reduce(matrix, given)
        columns, found = _solve_by_nearest(matrix) or solver(matrix)
        reduced = _potentials_of(matrix, columns) if found is None else found
        rows, potentials = c_transform(matrix, reduced) + row_shift, reduced + column_shift
        total = matrix[np.arange(len(matrix)), columns].sum(dtype=np.float64) + row_shift.sum() + column_shift.sum()
    return Assignment(torch.from_numpy(columns), torch.from_numpy(rows), torch.from_numpy(potentials), float(total))


def solve_changed_rows(
    matrix: Costs, potential: NDArray[np.float64] | None, columns: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Solve a problem again of which some rows have changed, from the solution before.

    Parameters
    ----------
    matrix
        (n, n) in row-major order, which stays as it is; rows that have not changed are finite.
    potential
        (n,) of the columns in the solution before; None if there is none.
    columns
        (n,) of the rows in the solution before, -1 for those that have changed.

    Returns
    -------
    columns, potential
        Of the solution; both are new arrays.

    Raises
    ------
    WeightError
        If a cost of a changed row is NaN or infinite.
    """
    check_finite(matrix[columns < 0])
    if len(matrix) < _FEW_ROWS:
        solved = solve(matrix.copy(), None if potential is None else torch.from_numpy(potential))
        return solved.permutation.numpy(), solved.col_potential.numpy()
    from ._assignment_loops import shortest_augmenting_paths

    return shortest_augmenting_paths(matrix, potential, None if potential is None else columns)


def check_finite(matrix: Costs) -> None:
    """Check costs before they reach a native solver, which may do anything with others.

    Raises
    ------
    WeightError
        If a cost is NaN or infinite.
    """
    # The minimum and maximum take no memory, and are NaN if any entry is.
    if matrix.size and not np.isfinite([matrix.min(), matrix.max()]).all():
        raise WeightError(
            "cost matrix holds NaN or infinity, expected finite numbers: check the weights it was computed from"
        )


def _reduce(matrix: Costs, potential: NDArray[np.float64] | None) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Subtract potentials and then minima of rows and columns in place, and return what was subtracted from each.

    The subtraction from each row is in float64. What is left has a zero in every row and column, and no optimal
    assignment changes.
    """
    column_shift = np.zeros(len(matrix)) if potential is None else potential.astype(np.float64)
    row_shift = np.empty(len(matrix))
    for start in range(0, len(matrix), _ROWS):
        part = matrix[start : start + _ROWS]
        left = part - column_shift
        row_shift[start : start + _ROWS] = left.min(1)
        part[:] = left - row_shift[start : start + _ROWS, None]
    minima = matrix.min(0)
    matrix -= minima
    return row_shift, column_shift + minima


def c_transform(cost: Costs, col_potential: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the largest feasible row potentials, ``min_j cost[i, j] - col_potential[j]``, in float64."""
    if len(cost) >= _FEW_ROWS:
        from ._assignment_loops import row_minima

        minima: NDArray[np.float64] = row_minima(cost, col_potential)
        return minima
    rows = np.empty(len(cost))
    for start in range(0, len(cost), _ROWS):
        rows[start : start + _ROWS] = (cost[start : start + _ROWS] - col_potential).min(1)
    return rows


def _square(cost: Tensor | NDArray) -> Costs:
    array = cost.detach().cpu() if isinstance(cost, Tensor) else torch.from_numpy(np.asarray(cost))
    if array.ndim != 2 or array.shape[0] != array.shape[1]:
        raise WeightError(
            f"cost matrix of shape {tuple(array.shape)}, expected a square one: match equal numbers of neurons"
        )
    return array.to(torch.float64 if array.dtype == torch.float64 else torch.float32).contiguous().numpy()


def _solve_by_nearest(matrix: Costs) -> _Solution | None:
    """Solve the easy case, as with copies of one network: no two rows have the same cheapest column."""
    columns = matrix.argmin(1)
    return (columns, np.zeros(len(matrix))) if np.unique(columns).size == len(columns) else None


def _potentials_of(matrix: Costs, columns: NDArray[np.int64]) -> NDArray[np.float64]:
    """Compute column potentials of an optimal assignment by Bellman-Ford shortest paths, all rows at once.

    A step from row i's column to column j costs ``cost[i, j] - cost[i, columns[i]]``; an optimal assignment has no
    negative cycle, so the distances converge, up to rounding.
    """
    matched = matrix[np.arange(len(matrix)), columns].astype(np.float64)
    potentials = np.zeros(len(matrix))
    tolerance = float(np.finfo(matrix.dtype).eps) * float(matrix.mean(dtype=np.float64))
    for _ in range(len(matrix)):
        rows: NDArray[Any] = (matched - potentials[columns]).astype(matrix.dtype)
        improved = potentials
        for start in range(0, len(matrix), 64):
            part = slice(start, start + 64)
            improved = np.minimum(improved, (matrix[part] - rows[part, None]).min(0))
        decrease = float((potentials - improved).max())
        potentials = improved
        if decrease <= tolerance:
            break
    return potentials


def _native(
    matrix: Costs, potential: NDArray[np.float64] | None = None
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    from ._assignment_loops import shortest_augmenting_paths

    return shortest_augmenting_paths(matrix, potential)


def _lapjv(matrix: Costs) -> _Solution:
    from lapjv import lapjv

    # Without this it casts float64 to float32.
    columns, _, (_, _, potentials) = lapjv(matrix, force_doubles=matrix.dtype == np.float64)
    return columns.astype(np.int64), potentials.astype(np.float64)


def _lapx(matrix: Costs) -> _Solution:
    from lap import lapjvs

    columns, _ = lapjvs(matrix, return_cost=False, jvx_like=False, prefer_float32=False)
    return np.asarray(columns, np.int64), None


def _scipy(matrix: Costs) -> _Solution:
    return linear_sum_assignment(matrix)[1].astype(np.int64), None


#: Fastest first, each with the module that it needs; numba and scipy are always installed.
_BACKENDS: dict[str, tuple[str, Callable[[Costs], _Solution]]] = {
    "native": ("numba", _native),
    "lapjv": ("lapjv", _lapjv),
    "lapx": ("lap", _lapx),
    "scipy": ("scipy", _scipy),
}


def backends() -> list[str]:
    """Return the names of the installed backends, fastest first."""
    return [name for name, (module, _) in _BACKENDS.items() if importlib.util.find_spec(module) is not None]


def _backend(name: str, rows: int) -> Callable[[Costs], _Solution]:
    installed = backends()
    if name == "auto":
        return _BACKENDS[installed[0 if rows >= _FEW_ROWS else 1]][1]
    if name not in installed:
        raise UsageError(f"assignment backend {name!r} is not installed, expected one of auto, {', '.join(installed)}")
    return _BACKENDS[name][1]
