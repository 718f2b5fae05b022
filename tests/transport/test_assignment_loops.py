"""Shortest augmenting paths on short lists of the costs, against scipy's solver on all of them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment

from resmoe_lab.transport import _assignment_loops as loops
from resmoe_lab.transport._assignment_loops import row_minima, shortest_augmenting_paths


def costs(kind, size, rng):
    if kind == "points":
        a, b = rng.normal(size=(2, size, 6))
        return ((a[:, None] - b) ** 2).sum(2)
    if kind == "ties":
        return rng.integers(0, 4, (size, size)).astype(float)
    if kind == "equal rows":
        return np.repeat(rng.normal(size=(1, size)), size, 0) + rng.integers(0, 2, (size, 1))
    # Products of ranks: the shortest paths are as long as they can be.
    return np.outer(np.arange(size), np.arange(size)) + rng.random((size, size)) * 1e-3


@given(
    kind=st.sampled_from(["points", "ties", "equal rows", "ranks"]),
    size=st.integers(1, 90),
    listed=st.sampled_from([2, 3, 8, 200]),
    warm=st.booleans(),
    dtype=st.sampled_from([np.float32, np.float64]),
    seed=st.integers(0, 2**16),
)
@settings(max_examples=150, deadline=None, derandomize=True)
def test_lists_of_any_length_give_an_optimal_assignment(kind, size, listed, warm, dtype, seed):
    rng = np.random.default_rng(seed)
    cost = costs(kind, size, rng).astype(dtype)
    given_cost = cost.copy()
    potential = rng.normal(size=size) if warm else None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loops, "LIST_SIZE", listed)
        columns, potentials = shortest_augmenting_paths(cost, potential)
    assert sorted(columns.tolist()) == list(range(size))
    exact = cost.astype(np.float64)
    best = exact[linear_sum_assignment(exact)].sum()
    scale = max(1.0, float(np.abs(exact).max()))
    assert exact[np.arange(size), columns].sum() == pytest.approx(best, abs=1e-9 * scale * size)
    dual = (exact - potentials).min(1).sum() + potentials.sum()
    assert dual == pytest.approx(best, abs=1e-9 * scale * size)
    assert np.array_equal(cost, given_cost)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_long_lists_of_a_large_problem(dtype):
    rng = np.random.default_rng(0)
    cost = costs("points", 700, rng).astype(dtype)
    columns, potentials = shortest_augmenting_paths(cost)
    best = cost.astype(np.float64)[linear_sum_assignment(cost)].sum()
    assert cost[np.arange(700), columns].sum(dtype=np.float64) == pytest.approx(best, rel=1e-12)
    again, _ = shortest_augmenting_paths(cost, potentials)
    assert np.array_equal(again, columns)


def test_offsets_far_above_the_costs_leave_the_digits_that_float64_has():
    rng = np.random.default_rng(1)
    cost = rng.random((300, 300))
    rows, columns = 1e9 * rng.random((2, 300))
    best = linear_sum_assignment(cost)[1]
    assert np.array_equal(shortest_augmenting_paths(cost + rows[:, None] + columns)[0], best)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_row_minima_are_those_of_numpy_whatever_their_sign(dtype):
    rng = np.random.default_rng(2)
    cost, potential = rng.normal(size=(50, 70)).astype(dtype), rng.normal(size=70)
    for shift in (-5.0, 0.0, 5.0):
        assert np.array_equal(row_minima(cost, potential + shift), (cost - (potential + shift)).min(1))


@given(
    kind=st.sampled_from(["points", "ties", "equal rows", "ranks"]),
    size=st.integers(1, 60),
    share=st.sampled_from([0.0, 0.1, 0.5, 1.0]),
    listed=st.sampled_from([3, 200]),
    seed=st.integers(0, 2**16),
)
@settings(max_examples=100, deadline=None, derandomize=True)
def test_changed_rows_are_matched_anew_and_the_others_move_only_where_that_pays(kind, size, share, listed, seed):
    rng = np.random.default_rng(seed)
    cost = costs(kind, size, rng)
    changed = rng.random(size) < share
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loops, "LIST_SIZE", listed)
        before, potential = shortest_augmenting_paths(cost)
        cost[changed] = costs(kind, size, rng)[changed]
        columns, potentials = shortest_augmenting_paths(cost, potential, np.where(changed, -1, before))
    best = cost[linear_sum_assignment(cost)].sum()
    scale = max(1.0, float(np.abs(cost).max()))
    assert sorted(columns.tolist()) == list(range(size))
    assert cost[np.arange(size), columns].sum() == pytest.approx(best, abs=1e-9 * scale * size)
    assert (cost - potentials).min(1).sum() + potentials.sum() == pytest.approx(best, abs=1e-9 * scale * size)
    if not changed.any():
        assert np.array_equal(columns, before)
