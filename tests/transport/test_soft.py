from itertools import pairwise

import pytest
import torch

from resmoe_lab._core.errors import UsageError, WeightError
from resmoe_lab.transport import barycenter, soft_barycenter, transport_plan

from .clouds import unrelated


def test_plans_have_the_right_marginals_and_cost():
    a, b = unrelated(2, 12, 5)
    plan, cost = transport_plan(a, b[:8])
    torch.testing.assert_close(plan.sum(1), torch.full((12,), 1 / 12, dtype=torch.float64))
    torch.testing.assert_close(plan.sum(0), torch.full((8,), 1 / 8, dtype=torch.float64))
    distances = (a[:, None] - b[None, :8]).double().square().sum(2)
    assert cost == pytest.approx(float((plan * distances).sum()), rel=1e-5)


def test_equal_sizes_give_what_alternating_gives():
    stack = unrelated(3, 15, 4)
    soft = soft_barycenter(list(stack))
    hard = barycenter(stack, solver="alternating", certify=False)
    assert 15 * soft.objective == pytest.approx(hard.objective, rel=1e-5)
    torch.testing.assert_close(soft.center, hard.center)
    torch.testing.assert_close(soft.aligned(stack[1], 1), stack[1][hard.permutations[1]])


def test_unequal_sizes_lower_the_objective_to_the_end():
    experts = [unrelated(1, size, 6, seed=size)[0] for size in (10, 14, 7)]
    result = soft_barycenter(experts, start=1, weights=[1.0, 2.0, 1.0])
    assert result.center.shape == (14, 6)
    assert [plan.shape for plan in result.plans] == [(14, 10), (14, 14), (14, 7)]
    values = [step.objective for step in result.history]
    assert all(new <= old * (1 + 1e-9) for old, new in pairwise(values))
    assert result.objective == values[-1]


def test_a_copy_cut_in_two_is_put_together():
    small = unrelated(1, 6, 3)[0]
    result = soft_barycenter([small, small.repeat_interleave(2, 0)])
    assert result.objective == pytest.approx(0, abs=1e-6)
    torch.testing.assert_close(result.aligned(small.repeat_interleave(2, 0), 1), small)


@pytest.mark.parametrize(
    ("experts", "message"),
    [([], "no expert"), ([torch.zeros(2, 3), torch.zeros(2, 4)], "4 columns"), ([torch.tensor([[torch.nan]])], "NaN")],
)
def test_bad_experts_are_named(experts, message):
    with pytest.raises(WeightError, match=message):
        soft_barycenter(experts)


@pytest.mark.parametrize("arguments", [{"start": 3}, {"max_iterations": 0}, {"weights": [1.0]}])
def test_bad_arguments_are_named(arguments):
    with pytest.raises(UsageError):
        soft_barycenter([torch.zeros(2, 3), torch.zeros(3, 3)], **arguments)
