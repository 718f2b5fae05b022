from __future__ import annotations

import pandas as pd
import pytest

import resmoe_lab as rl
from resmoe_lab._core.params import KEEP
from resmoe_lab.analysis.curves import equal_curves
from resmoe_lab.analysis.equal_bytes import keep_at_equal_bytes
from resmoe_lab.checkpoint import Checkpoint
from resmoe_lab.methods import METHODS, forecast_ledger

_METHODS = ["up", "svd", "resmoe-up", "meo"]


def test_both_curves_are_what_the_single_functions_say(tiny: Checkpoint) -> None:
    stack = rl.load_stack(tiny, layer=1)
    center = rl.find_center(stack)
    budget = forecast_ledger(METHODS["resmoe-up"](), stack.shape, keep=0.25).true_bytes
    share = budget / (2 * stack.weights.numel())
    keeps, matched = equal_curves(stack, methods=_METHODS, centers=[center], keeps=[0.25, 0.5], shares=[share])
    expected = rl.error_curves(stack, methods=_METHODS, keeps=[0.25, 0.5], center=center)
    pd.testing.assert_frame_equal(keeps[list(expected.columns)], expected)
    assert matched["method"].tolist() == _METHODS
    for row in matched.itertuples():
        assert row.keep == pytest.approx(keep_at_equal_bytes(row.method, 0.25, stack.shape))
        alone = rl.error_curves(stack, methods=[row.method], keeps=[row.keep], center=center)
        assert row.relative_error == pytest.approx(alone.relative_error[0])
        assert forecast_ledger(METHODS[row.method](), stack.shape, keep=row.keep).true_bytes <= budget


def test_residual_methods_have_a_curve_for_every_center(pico_checkpoint: Checkpoint) -> None:
    stack = rl.load_stack(pico_checkpoint, layer=0)
    centers = [rl.find_center(stack, center=name) for name in ("wasserstein", "average")]
    keeps, matched = equal_curves(
        stack, methods=["up", "resmoe-up"], centers=centers, keeps=KEEP.grid(), shares=[0.01, 0.9]
    )
    assert sorted(set(zip(keeps["method"], keeps["center"], strict=True))) == [
        ("resmoe-up", "average"),
        ("resmoe-up", "wasserstein"),
        ("up", "none"),
    ]
    assert set(matched["share"]) == {0.9}, "a hundredth of the bytes fits nothing"
