from __future__ import annotations

import pandas as pd
import pytest

import resmoe_lab as rl
from resmoe_lab._core.params import KEEP
from resmoe_lab.analysis.curves import equal_curves
from resmoe_lab.analysis.equal_bytes import compare_at_equal_bytes
from resmoe_lab.checkpoint import Checkpoint
from resmoe_lab.methods import METHODS
from resmoe_lab.store import forecast

_METHODS = ["up", "svd", "resmoe-up", "meo"]


def test_both_curves_are_what_the_single_functions_say(tiny: Checkpoint) -> None:
    stack = rl.load_stack(tiny, layer=1)
    center = rl.find_center(stack)
    budget = forecast(METHODS["resmoe-up"](), stack.shape, keep=0.25).true_bytes
    share = budget / (2 * stack.weights.numel())
    keeps, matched = equal_curves(stack, methods=_METHODS, centers=[center], keeps=[0.25, 0.5], shares=[share])
    known = rl.error_curves(stack, methods=_METHODS, keeps=[0.25, 0.5], center=center)
    pd.testing.assert_frame_equal(keeps, known)
    other = compare_at_equal_bytes([stack], methods=_METHODS, keep=0.25)
    assert matched["method"].tolist() == other["method"].tolist()
    assert matched["keep"].tolist() == pytest.approx(other["keep"].tolist())
    assert matched["relative_error"].tolist() == pytest.approx(other["relative_error"].tolist())


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
