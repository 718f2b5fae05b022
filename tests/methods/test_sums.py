"""Sums of the smallest numbers, against sorting."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from resmoe_lab.methods._sums import smallest_sums

NUMBERS = st.floats(0, 2.0**99, width=32, allow_nan=False)


@given(arrays(np.float32, st.integers(1, 40), elements=NUMBERS), st.data())
def test_they_are_those_of_the_sorted_numbers(values: np.ndarray, data: st.DataObject) -> None:
    counts = data.draw(st.lists(st.integers(0, len(values)), min_size=1, max_size=6))
    ordered = np.sort(values).astype(np.float64)
    expected = [ordered[:count].sum() for count in counts]
    assert smallest_sums(torch.from_numpy(values), counts) == pytest.approx(expected, rel=1e-12)


def test_many_equal_numbers_and_numbers_that_differ_in_their_last_bit() -> None:
    one, next_to_it = np.float32(0.3), np.nextafter(np.float32(0.3), np.float32(1))
    values = torch.tensor([one, next_to_it] * 50 + [0.0] * 20, dtype=torch.float32)
    sums = smallest_sums(values[torch.randperm(120, generator=torch.Generator().manual_seed(0))], [20, 21, 70, 71, 120])
    first, second = float(one), float(next_to_it)
    assert sums == pytest.approx([0.0, first, 50 * first, 50 * first + second, 50 * (first + second)], rel=1e-14)


def test_other_types_are_summed_alike() -> None:
    values = torch.rand(1000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    expected = [float(values.sort().values[:count].sum()) for count in (1, 500)]
    assert smallest_sums(values, [1, 500]) == pytest.approx(expected, rel=1e-12)
