from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resmoe_lab._core.params import BITS, KEEP
from resmoe_lab.plots.slider import Slider, bits_slider, keep_slider, layer_slider


def _evaluate(slider: Slider, value: float) -> float:
    """What Vega would make of the slider's expression."""
    *cases, last = slider.params()[-1].param.expr.split(" : ")
    for case in cases:
        limit, result = re.fullmatch(r"\w+ < (\S+) \? (\S+)", case).groups()
        if value < float(limit):
            return float(result)
    return float(last)


@given(st.lists(st.integers(1, 100), min_size=2, max_size=30, unique=True), st.floats(0, 1))
def test_it_shows_the_nearest_computed_value(hundredths: list[int], value: float) -> None:
    keeps = [percent / 100 for percent in hundredths]
    slider = keep_slider(keeps)
    nearest = min(abs(keep - value) for keep in keeps)
    assert abs(_evaluate(slider, value) - value) == pytest.approx(nearest, abs=1e-6)


@pytest.mark.parametrize(
    ("keeps", "step"),
    [((0.1, 0.25, 0.5, 0.75), 0.05), ((0.05, 0.1, 0.15), 0.05), ((0.25, 0.5, 1.0), 0.25), ((0.3,), 1.0)],
)
def test_its_step_reaches_every_value(keeps: tuple[float, ...], step: float) -> None:
    assert keep_slider(keeps).step == pytest.approx(step)


def test_it_begins_at_the_parameters_default_or_next_to_it() -> None:
    assert keep_slider([0.1, 0.25, 0.5]).start == KEEP.default
    assert keep_slider([0.9, 0.1, 0.3]).start == 0.3


def test_one_value_needs_no_input() -> None:
    (shown,) = layer_slider([3]).params()
    assert shown.param.value == 3
    assert len(layer_slider([3, 1]).params()) == 2


def test_a_slider_of_bits_is_another_than_that_of_kept_fractions() -> None:
    slider, keeps = bits_slider([4.5, 1, 2.5, 8]), keep_slider([0.1, 0.25])
    assert slider.values == (1, 2.5, 4.5, 8)
    assert slider.start == min(slider.values, key=lambda value: abs(value - BITS.default))
    assert {slider.signal, slider.shown}.isdisjoint({keeps.signal, keeps.shown})
    for at, shown in ((1.6, 1), (1.8, 2.5), (3.4, 2.5), (16, 8)):
        assert _evaluate(slider, at) == shown
    assert all((value - slider.values[0]) / slider.step % 1 == pytest.approx(0) for value in slider.values)
