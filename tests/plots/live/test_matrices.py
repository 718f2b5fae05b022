from __future__ import annotations

import numpy as np
import pytest

from resmoe_lab.plots.live import permutation_figure, residual_figure
from resmoe_lab.plots.raster import figure_bytes


def test_kept_and_lost_share_the_squared_norm() -> None:
    before = np.random.default_rng(0).normal(size=(30, 20))
    after = np.where(abs(before) > 1, before, 0)
    figure = residual_figure(before, after, blocks={"w1": (0, 10), "w2": (10, 20)}, title="t")
    kept = float((after**2).sum() / (before**2).sum())
    titles = [axis.get_title(loc="left") for axis in figure.axes[:3]]
    assert titles == ["before (100%)", f"kept ({kept:.0%})", f"lost ({1 - kept:.0%})"]
    assert [tick.get_text() for tick in figure.axes[0].get_xticklabels()] == ["w1", "w2"]


def test_a_zero_matrix_draws() -> None:
    zero = np.zeros((4, 3))
    png = figure_bytes(residual_figure(zero, zero, blocks={"w1": (0, 3)}, title="zero"))
    assert png.startswith(b"\x89PNG")


@pytest.mark.parametrize("experts", [1, 3, 12])
def test_permutations_of_any_number_of_experts(experts: int) -> None:
    stack = np.tile(np.arange(10), (experts, 1))
    stack[-1] = stack[-1][::-1]
    figure = permutation_figure(stack, layer=2)
    shown = [axis.get_title(loc="left") for axis in figure.axes if axis.get_visible()]
    assert len(shown) == min(8, experts)
    assert shown[0] == ("expert 0: 100% moved" if experts == 1 else "expert 0: 0% moved")
