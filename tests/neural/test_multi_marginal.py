"""Exact plans between several samples equal a search of all pairings, and POT's plan between two."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import ot
import pytest
import torch

from resmoe_lab._core.errors import UsageError
from resmoe_lab.neural import multi_marginal_plan


@pytest.fixture
def points() -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).standard_normal((3, 4, 2)))


def _group_costs(points: torch.Tensor, weights: np.ndarray) -> torch.Tensor:
    costs = torch.zeros(4, 4, 4, dtype=torch.float64)
    for place in np.ndindex(4, 4, 4):
        group = np.stack([points[k, index].numpy() for k, index in enumerate(place)])
        costs[place] = float(weights @ ((group - weights @ group) ** 2).sum(axis=1))
    return costs


def test_the_best_groups_are_found(points: torch.Tensor) -> None:
    """It is no dearer than any plan that keeps points whole, nor cheaper than transport of all pairs allows."""
    weights = np.array([0.25, 0.25, 0.5])
    costs = []
    for second in permutations(range(4)):
        for third in permutations(range(4)):
            groups = np.stack([points[0].numpy(), points[1].numpy()[list(second)], points[2].numpy()[list(third)]])
            means = np.einsum("k,knd->nd", weights, groups)
            costs.append(np.einsum("k,knd->", weights, (groups - means) ** 2) / 4)
    cost, plan = multi_marginal_plan(points, weights.tolist())
    assert cost <= min(costs) + 1e-9
    pairs = [(0, 1), (0, 2), (1, 2)]
    squared = [float(ot.emd2(ot.unif(4), ot.unif(4), ot.dist(points[i].numpy(), points[j].numpy()))) for i, j in pairs]
    assert cost >= sum(weights[i] * weights[j] * own for (i, j), own in zip(pairs, squared, strict=True)) - 1e-9
    assert cost == pytest.approx(float((plan * _group_costs(points, weights)).sum()))
    for axes in ((1, 2), (0, 2), (0, 1)):
        assert plan.sum(dim=axes).tolist() == pytest.approx([0.25] * 4)


def test_between_two_it_is_transport(points: torch.Tensor) -> None:
    first, second = points[0].numpy(), points[1].numpy()
    squared = float(ot.emd2(ot.unif(4), ot.unif(4), ot.dist(first, second)))
    assert multi_marginal_plan(points[:2], [0.25, 0.75])[0] == pytest.approx(0.25 * 0.75 * squared)


def test_a_plan_too_large_is_refused() -> None:
    with pytest.raises(UsageError, match="20 points of 4 distributions have 160,000 groups, expected at most 20,736"):
        multi_marginal_plan(torch.zeros(4, 20, 1))
