from __future__ import annotations

from itertools import product

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resmoe_lab._core.errors import UsageError
from resmoe_lab.analysis.allocation import allocate, allocate_keeps

from ..plots.synthetic import make_sweep


def _best(losses: np.ndarray, sizes: np.ndarray, budget: float) -> float:
    """Every choice there is, tried."""
    rows = np.arange(len(losses))
    points = product(range(losses.shape[1]), repeat=len(losses))
    return min(losses[rows, list(p)].sum() for p in points if sizes[rows, list(p)].sum() <= budget)


@settings(deadline=None, max_examples=60)
@given(layers=st.integers(1, 4), points=st.integers(1, 5), seed=st.integers(0, 10_000), share=st.floats(0, 1))
def test_it_finds_what_trying_everything_finds(layers: int, points: int, seed: int, share: float) -> None:
    rng = np.random.default_rng(seed)
    losses, sizes = rng.random((layers, points)), rng.integers(1, 50, (layers, points))
    low, high = sizes.min(axis=1).sum(), sizes.max(axis=1).sum()
    budget = low + share * (high - low)
    allocation = allocate(losses, sizes, budget)
    assert allocation.nbytes == sum(sizes[i, c] for i, c in enumerate(allocation.choices)) <= budget
    assert allocation.loss == pytest.approx(sum(losses[i, c] for i, c in enumerate(allocation.choices)))
    assert allocation.loss == pytest.approx(_best(losses, sizes, budget), abs=1e-9)


def test_bytes_of_a_large_model_are_never_passed() -> None:
    rng = np.random.default_rng(1)
    sizes = np.sort(rng.integers(10**8, 10**10, (32, 20)), axis=1)
    losses = np.sort(rng.random((32, 20)), axis=1)[:, ::-1]
    budget = 0.4 * sizes[:, -1].sum()
    assert allocate(losses, sizes, budget).nbytes <= budget


def test_a_budget_that_fits_nothing_is_refused() -> None:
    with pytest.raises(UsageError, match="expected at least 6"):
        allocate(np.ones((2, 2)), np.array([[3, 4], [3, 9]]), 5)


def test_allocated_keeps_beat_or_equal_the_uniform_one_within_the_budget() -> None:
    sweep = make_sweep()
    table = allocate_keeps(sweep.errors, sweep.sizes, method="resmoe-up", share=0.45)
    budget = 0.45 * sweep.sizes["original_bytes"].iloc[0]
    assert table["true_bytes"].sum() <= budget
    assert table["uniform_bytes"].sum() <= budget
    assert table["relative_error"].sum() <= table["uniform_error"].sum()
    assert table["uniform_keep"].nunique() == 1
    looked_up = sweep.errors.query("method == 'resmoe-up'").set_index(["layer", "keep"])["relative_error"]
    assert table["relative_error"].tolist() == [looked_up[row.layer, row.keep] for row in table.itertuples()]


def test_layers_that_need_more_get_more() -> None:
    keeps = [0.25, 0.5, 0.75, 1.0]
    errors = pd.DataFrame(
        [(layer, "up", "none", k, 0, scale * (1 - k) ** 2) for layer, scale in ((0, 0.1), (1, 1.0)) for k in keeps],
        columns=["layer", "method", "center", "keep", "error", "relative_error"],
    )
    sizes = pd.DataFrame({"method": "up", "keep": keeps, "true_bytes": [200, 400, 600, 800], "original_bytes": 800})
    table = allocate_keeps(errors, sizes, method="up", share=0.5)
    assert table["keep"].tolist() == [0.25, 0.75]
    assert table["uniform_keep"].tolist() == [0.5, 0.5]


def test_an_unknown_method_is_one_line() -> None:
    sweep = make_sweep()
    with pytest.raises(UsageError, match="choose from up, svd"):
        allocate_keeps(sweep.errors, sweep.sizes, method="nothing", share=0.5)
