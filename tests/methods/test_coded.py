"""What is special about coded methods: bytes that fit, a center only where it pays, errors where they matter least."""

from __future__ import annotations

import math

import pytest
import torch

from resmoe_lab._core.errors import UsageError
from resmoe_lab.analysis.diagnosis import diagnose
from resmoe_lab.centers import find_center
from resmoe_lab.experts import Block, ExpertStack
from resmoe_lab.methods import compress_layer, storage_ledger
from resmoe_lab.methods.coded import center_saving

from .calibrated import statistics

NEURONS, P = 96, 64
BLOCKS = tuple(Block(name, k * P, (k + 1) * P) for k, name in enumerate(("w1", "w3", "w2")))


def _stack(shared: float, *, experts: int = 4, seed: int = 0) -> ExpertStack:
    """Experts of which a share of the energy is the same in all, each with its neurons in an order of its own."""
    generator = torch.Generator().manual_seed(seed)
    base = torch.randn(NEURONS, 3 * P, generator=generator) * math.sqrt(shared)
    noise = torch.randn(experts, NEURONS, 3 * P, generator=generator) * math.sqrt(1 - shared)
    orders = [torch.randperm(NEURONS, generator=generator) for _ in range(experts)]
    weights = torch.stack([(base + own)[order] for own, order in zip(noise, orders, strict=True)])
    return ExpertStack(0.02 * weights, BLOCKS, layer=0)


@pytest.mark.parametrize("bits", [0.6, 1.0, 1.7, 3.0, 4.5])
@pytest.mark.parametrize("method", ["coded", "resmoe-coded"])
def test_no_more_bytes_than_asked_for_and_few_less(method: str, bits: float) -> None:
    stack = _stack(0.8)
    layer = compress_layer(stack, method=method, keep=bits / 16, center=find_center(stack))
    stored = 8 * storage_ledger(layer).true_bytes / stack.weights.numel()
    assert 0.98 * bits <= stored <= bits


def test_coded_gaussians_keep_the_distance_to_the_bound() -> None:
    """Shannon's bound of the error at R bits is 2^(-2R); an entropy-coded scalar quantizer loses 1.53 dB.

    Headers and tables take some more of so small a layer.
    """
    stack = _stack(0.0, experts=8)
    for bits in (2.0, 3.0, 4.0):
        error = compress_layer(stack, method="coded", keep=bits / 16).approximation_error(stack)
        assert 2 ** (-2 * bits) < error / stack.mean_squared_norm() < 1.7 * 2 ** (-2 * bits)


@pytest.mark.parametrize(("shared", "stored"), [(0.9, True), (0.0, False)])
def test_a_center_is_stored_where_it_pays(shared: float, stored: bool) -> None:
    stack = _stack(shared)
    center = find_center(stack)
    layer = compress_layer(stack, method="resmoe-coded", keep=2 / 16, center=center)
    assert (layer.center is not None) == stored
    assert (center_saving(stack, center) > 0) == stored


def test_what_a_center_saves_is_what_the_same_error_costs_without_it() -> None:
    stack = _stack(0.9, experts=8)
    center = find_center(stack)
    saving = center_saving(stack, center, bits=3.0)
    without = compress_layer(stack, method="coded", keep=3 / 16).approximation_error(stack)
    together = compress_layer(stack, method="resmoe-coded", keep=(3 - saving) / 16, center=center)
    assert together.approximation_error(stack) == pytest.approx(without, rel=0.1)


def test_the_diagnosis_tells_the_rule_and_a_bound_that_no_center_passes() -> None:
    stack = _stack(0.9, experts=8)
    coding = diagnose(stack, centers=["wasserstein", "average"]).coding
    gain = 1 - find_center(stack).objective / stack.mean_squared_norm()
    assert coding["rule"] == pytest.approx(0.5 * math.log2(1 / (1 - gain)))
    assert coding["net"] < coding["rule"] <= coding["most"] * (1 + 1e-9)


@pytest.mark.parametrize("method", ["coded", "resmoe-coded"])
def test_compensation_costs_less_where_inputs_are(method: str) -> None:
    """At the same bytes, the error of the products with inputs of these second moments is smaller than without."""
    stack = _stack(0.9)
    seen = statistics(4, NEURONS, P)
    center = find_center(stack)

    def loss(name: str) -> float:
        layer = compress_layer(stack, method=name, keep=3 / 16, center=center, statistics=seen)
        total = 0.0
        for k in range(stack.num_experts):
            original = stack.weights[k] if layer.orders is None else stack.weights[k][layer.orders[k]]
            lost = (original - layer.restore_expert(k)).double()[:, :P]
            total += float(torch.trace(lost @ seen.input_moments[k].double() @ lost.T))
        return total

    assert loss(f"{method}-gptq") < 0.8 * loss(method)


@pytest.mark.parametrize("bits", [0.7, 1.5])
@pytest.mark.parametrize("method", ["coded-gptq", "resmoe-coded-gptq"])
def test_compensated_bytes_fit_where_inputs_are_nearly_the_same(method: str, bits: float) -> None:
    """Compensation makes what is left larger than the curve of rates knows, most where inputs hang together."""
    stack, seen = _stack(0.8), statistics(4, NEURONS, P)
    moments = {}
    for name in ("input_moments", "neuron_moments"):
        own = getattr(seen, name)
        moments[name] = own + 30 * own.diagonal(dim1=1, dim2=2).mean() * torch.ones_like(own)
    seen = type(seen)(**{**vars(seen), **moments})
    layer = compress_layer(stack, method=method, keep=bits / 16, center=find_center(stack), statistics=seen)
    stored = 8 * storage_ledger(layer).true_bytes / stack.weights.numel()
    assert 0.98 * bits <= stored <= bits


def test_neurons_moments_follow_the_order_of_the_residual() -> None:
    """Experts in another order of neurons, with statistics in that order, are compressed to the same error."""
    stack, seen = _stack(0.9), statistics(4, NEURONS, P)
    order = torch.randperm(NEURONS, generator=torch.Generator().manual_seed(3))
    moved = stack.with_weights(stack.weights[:, order])
    there = seen.neuron_moments[:, order][:, :, order]
    errors = []
    for one, neurons in ((stack, seen.neuron_moments), (moved, there)):
        statistic = type(seen)(**{**vars(seen), "neuron_moments": neurons})
        options = {"method": "resmoe-coded-gptq", "keep": 3 / 16, "center": find_center(one), "statistics": statistic}
        errors.append(compress_layer(one, **options).approximation_error(one))
    # Inputs are rounded one after another, so that their order matters a little; the wrong moments matter much.
    assert errors[1] == pytest.approx(errors[0], rel=0.02)


def test_a_layer_smaller_than_its_headers_is_diagnosed() -> None:
    weights = torch.randn(3, 6, 12, generator=torch.Generator().manual_seed(1))
    stack = ExpertStack(weights, tuple(Block(name, 4 * k, 4 * k + 4) for k, name in enumerate(("w1", "w3", "w2"))), 0)
    assert math.isfinite(diagnose(stack, centers=["average"]).coding["net"])


def test_too_few_bits_say_what_is_needed() -> None:
    with pytest.raises(UsageError, match=r"does not fit into .* bytes a layer, expected at least .* bits a weight"):
        compress_layer(_stack(0.5), method="coded", keep=0.001)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_refused(value: float) -> None:
    stack = _stack(0.5)
    stack.weights[1, 2, 3] = value
    with pytest.raises(UsageError, match="a weight is not finite"):
        compress_layer(stack, method="coded", keep=0.2)


def test_a_layer_of_zeros() -> None:
    stack = ExpertStack(torch.zeros(2, NEURONS, 3 * P), BLOCKS, layer=0)
    layer = compress_layer(stack, method="coded", keep=0.2)
    assert not layer.restore().any()
    assert storage_ledger(layer).true_bytes < 500


def test_a_format_that_is_not_coded_is_refused() -> None:
    from resmoe_lab.store import Storage

    with pytest.raises(UsageError, match="method 'coded' cannot be stored as 'bitmask', expected 'coded'"):
        compress_layer(_stack(0.5), method="coded", keep=0.2, storage=Storage(format="bitmask"))
