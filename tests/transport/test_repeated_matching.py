"""Matching again what has changed, against scipy's assignment of costs that are computed anew each time."""

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment

from resmoe_lab._core.errors import WeightError
from resmoe_lab.transport import assignment
from resmoe_lab.transport.assignment import solve_changed_rows
from resmoe_lab.transport.problem import Problem
from resmoe_lab.transport.repeated_matching import RepeatedMatching

from .clouds import unrelated


@pytest.mark.parametrize("few_rows", [1, 512], ids=["native", "any solver"])
@pytest.mark.parametrize("offset", [0.0, 300.0])
def test_every_match_is_the_best_with_the_mean_of_the_others(few_rows, offset, monkeypatch):
    monkeypatch.setattr(assignment, "_FEW_ROWS", few_rows)
    experts = torch.stack(list(unrelated(5, 80, 12))).double() + offset
    weights = np.array([1.0, 2.0, 1.0, 3.0, 1.0]) / 8
    matching = RepeatedMatching(Problem(experts.float(), weights.tolist()))
    orders = np.tile(np.arange(80), (5, 1))
    rows, improved = experts.numpy() - experts.mean(1, keepdim=True).numpy(), []
    for _ in range(6):
        for k in range(5):
            others = [j for j in range(5) if j != k]
            mean = sum(weights[j] * rows[j][orders[j]] for j in others) / (1 - weights[k])
            distances = ((mean[:, None] - rows[k]) ** 2).sum(2)
            best = distances[linear_sum_assignment(distances)].sum()
            before = distances[np.arange(80), orders[k]].sum()
            improved.append(matching.match(k))
            assert improved[-1] == (best < before * (1 - 1e-6))
            orders[k] = matching.permutations[k].numpy()
            assert distances[np.arange(80), orders[k]].sum() == pytest.approx(best, rel=1e-5)
    assert improved[:5] == [True] * 5
    assert not any(improved[-5:]), "the last round changes nothing"


def test_only_changed_costs_are_computed_again(monkeypatch):
    matching = RepeatedMatching(Problem(unrelated(3, 40, 6)))
    update, computed = RepeatedMatching._update_costs, []

    def counting(self, last, k):
        computed.append(int(last.stale.sum()))
        update(self, last, k)

    monkeypatch.setattr(RepeatedMatching, "_update_costs", counting)
    matching.match(0)
    assert matching.match(1)
    moved = int((matching.permutations[1] != torch.arange(40)).sum())
    matching.match(0)
    assert not matching.match(0)
    assert computed == [40, 40, moved]


def test_costs_that_are_not_finite_are_refused_before_the_solver():
    costs = np.zeros((3, 3), np.float32)
    costs[1, 2] = np.nan
    with pytest.raises(WeightError, match="NaN or infinity"):
        solve_changed_rows(costs, None, np.full(3, -1))
