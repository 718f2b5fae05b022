"""Sliders inside charts, interactive without a kernel."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

import altair as alt

from .._core.params import BITS, KEEP, Param

#: Charts on one page that have a signal of this name follow each other's slider.
KEEP_SIGNAL, SHOWN_SIGNAL = "keep", "shown_keep"
BITS_SIGNAL, SHOWN_BITS_SIGNAL = "bits", "shown_bits"
LAYER_SIGNAL, SHOWN_LAYER_SIGNAL = "layer", "shown_layer"
_RESOLUTION = 10_000


@dataclass(frozen=True)
class Slider:
    """A range input over the values that were computed.

    The input moves in equal steps; between two computed values the chart shows the nearer one, never an
    interpolation.

    Parameters
    ----------
    values
        The computed values, lowest first.
    start
        Initial value.
    signal, shown
        Names of the input's signal and of the computed value that it selects.
    label
        Label beside the input.
    """

    values: tuple[float, ...]
    start: float
    signal: str
    shown: str
    label: str

    @property
    def step(self) -> float:
        """The largest step that hits every value, unless that needs more than 200 steps."""
        whole = [round(value * _RESOLUTION) for value in self.values]
        gaps = [right - left for left, right in pairwise(whole)]
        if not gaps:
            return 1.0
        step = math.gcd(*gaps)
        steps = (whole[-1] - whole[0]) // step
        return step / _RESOLUTION if steps <= 200 else KEEP.step

    def params(self) -> list[alt.Parameter]:
        """Return the parameters of the input, if there are several values, and of the value it selects."""
        if len(self.values) == 1:
            return [alt.param(name=self.shown, value=self.start)]
        low, high = self.values[0], self.values[-1]
        bind = alt.binding_range(min=low, max=high, step=self.step, name=self.label)
        position = alt.param(name=self.signal, value=self.start, bind=bind)
        return [position, alt.param(name=self.shown, expr=self._nearest())]

    def _nearest(self) -> str:
        """Return a Vega expression for the value nearest to the input."""
        expression = f"{self.values[-1]:g}"
        for left, right in zip(self.values[-2::-1], self.values[:0:-1], strict=True):
            expression = f"{self.signal} < {(left + right) / 2:g} ? {left:g} : {expression}"
        return expression

    def selects(self, field: str) -> str:
        """Return a Vega expression that is true of rows whose `field` is the selected value."""
        return f"abs(datum['{field}'] - {self.shown}) < 1e-6"


def keep_slider(keeps: Iterable[float], param: Param = KEEP) -> Slider:
    """Return the kept-fraction slider over these values, initially nearest to the parameter's default.

    Examples
    --------
    >>> slider = keep_slider([0.1, 0.25, 0.5])
    >>> slider.start, slider.step
    (0.25, 0.05)
    """
    values = tuple(sorted({round(float(keep), 6) for keep in keeps}))
    start = min(values, key=lambda keep: abs(keep - param.default))
    return Slider(values, start, KEEP_SIGNAL, SHOWN_SIGNAL, "kept fraction")


def bits_slider(values: Iterable[float], param: Param = BITS, *, label: str = "stored bits a weight") -> Slider:
    """Return the slider of bits a weight over these values, initially nearest to the parameter's default.

    Examples
    --------
    >>> slider = bits_slider([1, 1.5, 2, 8])
    >>> slider.start, slider.step
    (2.0, 0.5)
    """
    bits = tuple(sorted({round(float(value), 6) for value in values}))
    start = min(bits, key=lambda value: abs(value - param.default))
    return Slider(bits, start, BITS_SIGNAL, SHOWN_BITS_SIGNAL, label)


def layer_slider(layers: Iterable[int]) -> Slider:
    """Return a slider over these layers, initially at the first."""
    values = tuple(float(layer) for layer in sorted(set(layers)))
    return Slider(values, values[0], LAYER_SIGNAL, SHOWN_LAYER_SIGNAL, "layer")
