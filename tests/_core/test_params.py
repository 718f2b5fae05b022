import math

import pytest

from resmoe_lab._core.errors import UsageError
from resmoe_lab._core.params import KEEP


@pytest.mark.parametrize("value", [0.0, -0.1, 1.5, math.nan, math.inf])
def test_keep_outside_its_bounds_is_refused_in_one_line(value: float) -> None:
    with pytest.raises(UsageError, match=r"expected a number in \(0, 1\]") as caught:
        KEEP.validate(value)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2


def test_keep_takes_its_bounds() -> None:
    assert KEEP.validate(1.0) == 1.0
    assert KEEP.validate(1e-9) == 1e-9


def test_grid_has_the_default_and_no_zero() -> None:
    grid = KEEP.grid()
    assert KEEP.default in grid
    assert grid[0] == 0.05
    assert grid[-1] == 1.0
    assert len(grid) == 20
