"""Curves of rates from one histogram, against sums over all values at once."""

import tracemalloc

import numpy as np
import pytest

from resmoe_lab.store.coder import rates
from resmoe_lab.store.coder.rates import RateCurve


@pytest.fixture
def values() -> np.ndarray:
    return np.random.default_rng(0).standard_t(4, size=(70, 30)).astype(np.float32)


def test_values_are_counted_in_parts_as_they_are_at_once(values: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rates, "_CHUNK", values.size)
    whole = RateCurve(values)
    monkeypatch.setattr(rates, "_CHUNK", 64)  # the last part is shorter
    parts = RateCurve(values)
    assert parts.count == values.size
    assert parts.largest == np.abs(values).max()
    assert parts.energy == pytest.approx(np.square(values, dtype=np.float64).sum(), rel=1e-12)
    for step in (0.05, 0.5, 5.0):
        assert parts.at(step) == pytest.approx(whole.at(step), rel=1e-9)


@pytest.mark.parametrize("sign", [1, -1])
def test_the_largest_magnitude_may_have_either_sign(sign: int) -> None:
    assert RateCurve(np.array([sign * 3.0, -sign * 2.0], np.float32)).largest == 3.0


def test_no_values_cost_nothing() -> None:
    assert RateCurve(np.zeros((0, 4), np.float32)).at(1.0) == (0.0, 0.0)
    assert RateCurve(np.zeros((3, 4), np.float32)).at(1.0) == (0.0, 0.0)


def test_counting_takes_less_memory_than_the_values() -> None:
    values = np.ones((1 << 10, 1 << 12), np.float32)
    tracemalloc.start()
    try:
        RateCurve(values)
        taken = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert taken < values.nbytes / 2
