import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment

from resmoe_lab.transport import matching, squared_distances
from resmoe_lab.transport.matching import match

from .clouds import unrelated, upcycled


def least(a: torch.Tensor, b: torch.Tensor) -> tuple[torch.Tensor, float]:
    cost = (a.double()[:, None] - b.double()[None]).square().sum(2)
    rows, columns = linear_sum_assignment(cost.numpy())
    return torch.from_numpy(columns), float(cost[rows, columns].sum())


@given(
    size=st.integers(1, 30),
    width=st.sampled_from([1, 3, 40, 300]),
    noise=st.sampled_from([0.0, 0.01, 0.3, 1.0, 3.0]),
    seed=st.integers(0, 2**16),
    guessed=st.booleans(),
)
@settings(max_examples=80, deadline=None)
def test_matches_are_optimal_and_bounded(size, width, noise, seed, guessed):
    a, b = upcycled(2, size, width, noise=noise, seed=seed)[0]
    candidate = torch.randperm(size, generator=torch.Generator().manual_seed(seed)) if guessed else None
    result = match(a, b, products=torch.empty(size, size), candidate=candidate)
    _, best = least(a, b)
    scale = float(a.square().sum() + b.square().sum())
    assert sorted(result.permutation.tolist()) == list(range(size))
    assert result.cost == pytest.approx(best, abs=2e-5 * scale)
    assert 0 <= result.lower_bound <= best + 1e-9 * scale
    assert result.lower_bound >= best - 2e-5 * scale


def test_copies_are_matched_from_a_part_of_the_columns(monkeypatch):
    (a, b), truth = upcycled(2, 200, 1600)
    candidates = []
    monkeypatch.setattr(matching, "add_products", lambda out, x, y, scale: candidates.append(x.shape[1]))
    monkeypatch.setattr(matching.PartialDistances, "nearest", lambda self: truth[1])
    monkeypatch.setattr(
        matching.PartialDistances, "c_transform", lambda self, potential, exclude: torch.full((200,), 1e9)
    )
    assert match(a, b, products=torch.empty(200, 200)).skipped_assignment
    assert candidates == [200]


@pytest.mark.parametrize("noise", [0.1, 0.5, 1.0])
def test_copies_need_no_assignment(noise, monkeypatch):
    (a, b), truth = upcycled(2, 150, 1200, noise=noise)
    monkeypatch.setattr(matching, "solve", None)
    result = match(a, b, products=torch.empty(150, 150))
    assert result.skipped_assignment
    assert torch.equal(result.permutation, truth[1])
    assert result.lower_bound == result.cost


def test_a_part_of_the_columns_never_misleads():
    # The first half of the columns says the opposite of the second, which weighs more.
    a = torch.eye(300).repeat(1, 2)
    b = torch.cat([torch.eye(300).roll(1, 0), 3 * torch.eye(300)], 1)
    a[:, 300:] *= 3
    result = match(a, b, products=torch.empty(300, 300))
    assert torch.equal(result.permutation, torch.arange(300))


def test_a_candidate_that_is_as_good_is_kept():
    a = torch.zeros(4, 3)
    candidate = torch.tensor([2, 0, 3, 1])
    result = match(a, a, products=torch.empty(4, 4), candidate=candidate)
    assert torch.equal(result.permutation, candidate)
    assert result.gain == 0


def test_gain_is_what_the_candidate_cost_more():
    a, b = unrelated(2, 20, 5)
    candidate = torch.arange(20)
    result = match(a, b, products=torch.empty(20, 20), candidate=candidate)
    cost = squared_distances(a, b).double()
    assert result.gain == pytest.approx(float(cost.diagonal().sum()) - least(a, b)[1], rel=1e-4)
