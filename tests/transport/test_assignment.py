import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment

from resmoe_lab._core.errors import UsageError, WeightError
from resmoe_lab.transport import assign, squared_distances
from resmoe_lab.transport.assignment import backends

from .clouds import unrelated


def least(cost: torch.Tensor) -> float:
    rows, columns = linear_sum_assignment(cost.double().numpy())
    return float(cost.double()[rows, columns].sum())


@pytest.mark.parametrize("backend", ["auto", *backends()])
@given(size=st.integers(1, 40), seed=st.integers(0, 2**16), whole=st.booleans())
@settings(max_examples=25, deadline=None)
def test_assignments_are_optimal_and_their_duals_prove_it(backend, size, seed, whole):
    cost = torch.randn(size, size, generator=torch.Generator().manual_seed(seed))
    cost = (3 * cost).round() if whole else cost
    result = assign(cost, backend=backend)
    assert sorted(result.permutation.tolist()) == list(range(size))
    assert result.permutation.dtype == torch.int64
    assert result.cost == pytest.approx(least(cost), abs=1e-4)
    slack = cost.double() - result.row_potential[:, None] - result.col_potential
    assert float(slack.min()) >= -1e-12
    assert float(result.row_potential.sum() + result.col_potential.sum()) == pytest.approx(result.cost, abs=1e-4)


def test_every_backend_that_the_package_needs_is_there():
    assert {"lapx", "scipy"} <= set(backends())


@pytest.mark.parametrize("backend", backends())
def test_previous_potentials_change_nothing_but_the_time(backend):
    a, b = unrelated(2, 200, 40)
    cost = squared_distances(a, b)
    near = squared_distances(a + 0.01 * unrelated(1, 200, 40, seed=5)[0], b)
    before = near.clone()
    warm = assign(near, backend=backend, potential=assign(cost, backend=backend).col_potential)
    cold = assign(near, backend=backend)
    assert torch.equal(near, before)
    assert torch.equal(warm.permutation, cold.permutation)
    assert warm.cost == pytest.approx(cold.cost, rel=1e-6)
    assert float((near.double() - warm.row_potential[:, None] - warm.col_potential).min()) >= -1e-3


def test_equal_costs_are_no_trouble():
    assignment = assign(torch.full((300, 300), 2.0))
    assert assignment.cost == 600
    assert sorted(assignment.permutation.tolist()) == list(range(300))


def test_nothing_to_match():
    assert assign(torch.zeros(0, 0)).cost == 0


def test_numpy_is_taken_too():
    assert assign(np.array([[1.0, 0.0], [0.0, 1.0]])).permutation.tolist() == [1, 0]


@pytest.mark.parametrize(
    ("cost", "message"),
    [
        (torch.tensor([[1.0, float("nan")], [0.0, 1.0]]), "NaN or infinity"),
        (torch.tensor([[1.0, float("inf")], [0.0, 1.0]]), "NaN or infinity"),
        (torch.zeros(2, 3), "square"),
        (torch.zeros(2), "square"),
    ],
)
def test_bad_costs_are_named(cost, message):
    with pytest.raises(WeightError, match=message):
        assign(cost)


def test_unknown_backends_are_named():
    with pytest.raises(UsageError, match="expected one of auto"):
        assign(torch.zeros(2, 2), backend="simplex")
