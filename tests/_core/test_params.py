import math

import numpy as np
import pytest
import torch

from resmoe_lab._core.errors import UsageError
from resmoe_lab._core.params import KEEP, check_seed


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


def test_a_seed_is_one_that_every_generator_takes() -> None:
    for seed in (0, 2**63 - 1):
        assert check_seed(seed) == seed
        np.random.default_rng(seed)
        torch.Generator().manual_seed(seed)
    for seed in (-1, 2**63):
        with pytest.raises(UsageError, match="expected a whole number from 0 to"):
            check_seed(seed)
