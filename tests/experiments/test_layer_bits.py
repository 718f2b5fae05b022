"""Bits of every layer, from what each alone does to the predictions."""

from __future__ import annotations

import pandas as pd
import pytest
import torch

from resmoe_lab._core.errors import UsageError
from resmoe_lab.checkpoint import open_checkpoint
from resmoe_lab.experiments.divergence import divergence, predicting_states
from resmoe_lab.experiments.layer_bits import allocate_bits, layer_budget, measure_layers, weigh_layers
from resmoe_lab.experiments.runner import VariantRunner
from resmoe_lab.experts import load_stack
from resmoe_lab.methods import compress_layer
from resmoe_lab.scoring.calibration import calibration_requests
from resmoe_lab.scoring.usage_trace import UsageTrace

TEXT = "storyworld_perplexity"


@pytest.fixture(scope="module")
def measured() -> pd.DataFrame:
    return measure_layers(open_checkpoint("switch-tiny"), "resmoe-coded", text=TEXT, tokens=256, bits=[0.75, 2, 4])


def test_every_layer_is_tried_at_every_number_of_bits(measured: pd.DataFrame) -> None:
    assert list(measured.columns) == ["layer", "keep", "true_bytes", "kl"]
    assert measured.groupby("layer").keep.apply(list).tolist() == [[0.75 / 16, 2 / 16, 4 / 16]] * 2
    experts, rows, columns = 8, 384, 256
    assert (measured.true_bytes <= 2 * measured.keep * experts * rows * columns).all()


def test_the_model_is_as_it_was_and_the_kl_is_that_of_the_layer_alone(measured: pd.DataFrame) -> None:
    checkpoint = open_checkpoint("switch-tiny")
    layer = int(measured.layer.iloc[-1])
    row = measured[(measured.layer == layer) & (measured.keep == 2 / 16)].iloc[0]
    with VariantRunner(checkpoint, layers=[layer]) as runner:
        requests = calibration_requests(*runner.loaded, text=TEXT, tokens=256)
        with runner.running(runner.original) as (model, _):
            original = predicting_states(model, requests)
        with runner.running(runner.variant("resmoe-coded", 2 / 16)) as (model, _):
            other = predicting_states(model, requests)
        assert row.kl == pytest.approx(divergence(model, original, other).kl, rel=1e-4)


def test_allocated_bits_move_predictions_less_than_equal_ones(measured: pd.DataFrame) -> None:
    """Encoder and decoder differ by orders of magnitude: the decoder's layer gets more."""
    checkpoint = open_checkpoint("switch-tiny")
    budget = layer_budget(checkpoint, [1, 3], 2 / 16)
    keeps = allocate_bits(measured, 1.2 * budget)
    assert keeps[3] > keeps[1]
    bytes_of = measured.set_index(["layer", "keep"]).true_bytes
    assert sum(bytes_of[layer, keep] for layer, keep in keeps.items()) <= 1.2 * budget


def test_a_budget_that_nothing_fits_into(measured: pd.DataFrame) -> None:
    with pytest.raises(UsageError, match=r"a budget of 100 bytes is too small, expected at least [1-9]"):
        allocate_bits(measured, 100)


def test_a_method_that_does_not_go_by_bits_is_refused() -> None:
    with pytest.raises(UsageError, match="method 'up' does not go by bits"):
        measure_layers(open_checkpoint("switch-tiny"), "up", text=TEXT)


def test_layers_are_weighed_by_the_experts_that_are_used() -> None:
    """A loop over the definition; an expert that no token takes costs nothing."""
    checkpoint = open_checkpoint("switch-tiny")
    shares = {1: torch.tensor([0.0, 0.5, 0.5, 0, 0, 0, 0, 0]).double(), 3: torch.full((8,), 1 / 8).double()}
    weighed = weigh_layers(checkpoint, "rtn", usage=UsageTrace("trace", 9, shares), bits=[2, 4])
    assert list(weighed.columns) == ["layer", "keep", "true_bytes", "loss"]
    for row in weighed.itertuples():
        stack = load_stack(checkpoint, layer=row.layer)
        restored = compress_layer(stack, method="rtn", keep=row.keep).restore()
        error = norm = 0.0
        for k, share in enumerate(shares[row.layer].tolist()):
            error += share * float((stack.weights[k] - restored[k]).double().square().sum())
            norm += share * float(stack.weights[k].double().square().sum())
        assert row.loss == pytest.approx(error / norm, rel=1e-9)
    keeps = allocate_bits(weighed, float(weighed.true_bytes.max()) * 2)
    assert keeps == {1: 0.25, 3: 0.25}
    with pytest.raises(UsageError, match="method 'up' does not go by bits"):
        weigh_layers(checkpoint, "up", usage=UsageTrace("trace", 9, shares))
