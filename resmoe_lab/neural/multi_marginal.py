"""The exact plan between several small samples: a reference where no formula is known, and a check of others."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from scipy import sparse
from scipy.optimize import linprog
from torch import Tensor

from .._core.errors import UsageError
from .problem import check_weights

#: Most entries of a plan: twelve points of four distributions, or 27 of three.
_MOST_ENTRIES = 20_736


def multi_marginal_plan(points: Tensor, weights: Sequence[float] | Tensor | None = None) -> tuple[float, Tensor]:
    """Return the least cost of matching points of all distributions in groups, and the plan that has it.

    The cost of a group is the weighted sum of squared distances to its weighted mean; the means, with the plan's mass,
    are the barycenter of the samples.

    Parameters
    ----------
    points
        (N, n, D): n points of each of N distributions.
    weights
        (N,) non-negative, summing to one (default: equal).

    Returns
    -------
    cost, plan
        The barycenter's objective sum_k weights_k W2^2, and a tensor with N axes of n masses that add up to one.

    Raises
    ------
    UsageError
        If the plan has more than 20,736 entries: a linear program takes every one.

    References
    ----------
    Agueh and Carlier, Barycenters in the Wasserstein space (2011), section 4.

    Examples
    --------
    >>> cost, plan = multi_marginal_plan(torch.tensor([[[0.0], [4.0]], [[6.0], [2.0]]]))
    >>> cost, plan.tolist()  # 0 with 2, and 4 with 6
    (1.0, [[0.0, 0.5], [0.5, 0.0]])
    """
    number, count = points.shape[:2]
    if count**number > _MOST_ENTRIES:
        raise UsageError(
            f"{count} points of {number} distributions have {count**number:,} groups, expected at most "
            f"{_MOST_ENTRIES:,}: take fewer points"
        )
    shares = check_weights(weights, number).double()
    shares = shares / shares.sum()
    grid = np.indices((count,) * number).reshape(number, -1)
    groups = torch.stack([own.double()[index] for own, index in zip(points, torch.from_numpy(grid), strict=True)])
    means = (shares[:, None, None] * groups).sum(dim=0)
    costs = (shares[:, None] * (groups - means).square().sum(dim=2)).sum(dim=0)
    columns = np.arange(grid.shape[1])
    each = [sparse.csr_array((np.ones(len(columns)), (row, columns)), (count, len(columns))) for row in grid]
    found = linprog(costs.numpy(), A_eq=sparse.vstack(each), b_eq=np.full(number * count, 1 / count), method="highs")
    return float(found.fun), torch.from_numpy(found.x.clip(0).reshape((count,) * number)) + 0.0  # no -0.0
