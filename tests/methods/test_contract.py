"""What every method promises, whoever adds it."""

from functools import cache

import pytest
import torch

from resmoe_lab._core.errors import UsageError
from resmoe_lab.analysis.approximation import approximation_error, error_curves
from resmoe_lab.centers import Center, Statistics, find_center
from resmoe_lab.experts import FAMILIES, Block, ExpertStack
from resmoe_lab.methods import METHODS, compress_layer
from resmoe_lab.store import forecast, weigh

from ..experts.pico import PICO
from .calibrated import statistics

KEEPS = [0.25, 0.4, 0.5, 0.75, 1.0]
BLOCKS = (Block("w1", 0, 12), Block("w2", 12, 24))


@pytest.fixture
def stack() -> ExpertStack:
    weights = torch.randn(3, 10, 24, generator=torch.Generator().manual_seed(5))
    return ExpertStack(weights, BLOCKS, layer=0)


@pytest.fixture
def center(stack: ExpertStack) -> Center:
    return find_center(stack)


@pytest.fixture
def calibrated() -> Statistics:
    return statistics(3, 10, 12)


@pytest.mark.parametrize("name", METHODS.names())
def test_the_curve_is_the_error_of_what_is_restored(
    name: str, stack: ExpertStack, center: Center, calibrated: Statistics
) -> None:
    """The slider's one sort or one spectrum against the experts themselves."""
    curve = error_curves(stack, methods=[name], keeps=KEEPS, center=center, statistics=calibrated)
    for row in curve.itertuples():
        layer = compress_layer(stack, method=name, keep=row.keep, center=center, statistics=calibrated)
        assert row.error == pytest.approx(approximation_error(stack, layer), rel=1e-4, abs=1e-9)
        assert row.relative_error == pytest.approx(row.error / stack.mean_squared_norm(), rel=1e-9)
    assert curve.error.is_monotonic_decreasing


@pytest.mark.parametrize("name", METHODS.names())
def test_restored_experts_have_the_stacks_form(
    name: str, stack: ExpertStack, center: Center, calibrated: Statistics
) -> None:
    layer = compress_layer(stack, method=name, keep=0.5, center=center, statistics=calibrated)
    restored = layer.restore()
    assert restored.shape == stack.weights.shape
    assert restored.dtype == stack.weights.dtype
    assert torch.isfinite(restored).all()
    assert (layer.center is None) == (not METHODS[name].uses_center)
    assert torch.equal(restored, layer.restore())


@pytest.mark.parametrize("name", METHODS.names())
def test_more_is_kept_for_more_bytes(name: str, stack: ExpertStack, center: Center, calibrated: Statistics) -> None:
    options = {"method": name, "center": center, "statistics": calibrated}
    sizes = [weigh(compress_layer(stack, keep=keep, **options)).true_bytes for keep in KEEPS]
    assert sizes == sorted(sizes)
    assert sizes[0] < sizes[-1]


@pytest.mark.parametrize("name", METHODS.names())
@pytest.mark.parametrize("keep", KEEPS)
def test_the_forecast_is_what_is_stored(
    name: str, keep: float, stack: ExpertStack, center: Center, calibrated: Statistics
) -> None:
    stored = weigh(compress_layer(stack, method=name, keep=keep, center=center, statistics=calibrated))
    assert forecast(METHODS[name](), stack.shape, keep=keep) == stored


@pytest.mark.parametrize("name", METHODS.names())
@pytest.mark.parametrize("keep", [0.0, -1.0, 1.5, float("nan")])
def test_keep_out_of_range(name: str, keep: float, stack: ExpertStack, center: Center, calibrated: Statistics) -> None:
    with pytest.raises(UsageError, match=r"keep is .*, expected a number in \(0, 1\]"):
        compress_layer(stack, method=name, keep=keep, center=center, statistics=calibrated)


@pytest.mark.parametrize("name", [name for name in METHODS.names() if METHODS[name].needs_statistics])
def test_a_calibrated_method_asks_for_its_statistics(name: str, stack: ExpertStack, center: Center) -> None:
    with pytest.raises(UsageError, match="needs calibration statistics and has none"):
        compress_layer(stack, method=name, keep=0.5, center=center)


@pytest.mark.parametrize("name", [name for name in METHODS.names() if METHODS[name].uses_center])
def test_a_residual_method_asks_for_its_center(name: str, stack: ExpertStack, calibrated: Statistics) -> None:
    with pytest.raises(UsageError, match="needs a center"):
        compress_layer(stack, method=name, keep=0.5, statistics=calibrated)


@pytest.mark.parametrize("name", METHODS.names())
def test_experts_of_zeros_stay_zeros(name: str) -> None:
    stack = ExpertStack(torch.zeros(3, 10, 24), BLOCKS, layer=0)
    layer = compress_layer(stack, method=name, keep=0.5, center=find_center(stack), statistics=statistics(3, 10, 12))
    assert not layer.restore().any()


@pytest.mark.parametrize("name", METHODS.names())
def test_an_expert_of_zeros_among_others(name: str, stack: ExpertStack, calibrated: Statistics) -> None:
    weights = stack.weights.clone()
    weights[1] = 0.0
    dead = stack.with_weights(weights)
    options = {"center": find_center(dead), "statistics": calibrated}
    layer = compress_layer(dead, method=name, keep=0.5, **options)
    assert torch.isfinite(layer.restore()).all()
    [row] = error_curves(dead, methods=[name], keeps=[0.5], **options).itertuples()
    assert row.error == pytest.approx(approximation_error(dead, layer), rel=1e-4, abs=1e-9)


def test_a_rank_of_zero_says_how_much_is_needed(stack: ExpertStack, center: Center) -> None:
    with pytest.raises(UsageError, match=r"keep 0\.05 leaves a 10 x 24 matrix no rank, expected at least 0\.14"):
        compress_layer(stack, method="resmoe-svd", keep=0.05, center=center)


def test_an_unknown_method_suggests_similar(stack: ExpertStack) -> None:
    with pytest.raises(UsageError, match="unknown method 'm-smo': did you mean m-smoe"):
        compress_layer(stack, method="m-smo")


@cache
def _scaled(factor: float) -> dict[str, object]:
    """Three experts of any size, and what goes with them."""
    weights = torch.randn(3, 8, 24, generator=torch.Generator().manual_seed(4)) * factor
    stack = ExpertStack(weights, BLOCKS, layer=0)
    return {"stack": stack, "center": find_center(stack), "statistics": statistics(3, 8, 12)}


@pytest.mark.parametrize("scale", [1e-3, 7.0, 1e3])
@pytest.mark.parametrize("name", METHODS.names())
def test_the_relative_error_does_not_know_the_scale(name: str, scale: float) -> None:
    errors = [error_curves(**_scaled(factor), methods=[name], keeps=[0.5]).relative_error[0] for factor in (1.0, scale)]
    assert errors[1] == pytest.approx(errors[0], rel=1e-3, abs=1e-9)


@cache
def _pico(model_type: str) -> tuple[ExpertStack, Center]:
    """The experts of a layer of a pico model, and their center."""
    model = PICO[model_type]()
    config = model.config.to_dict()
    [family] = [FAMILIES[name](config) for name in FAMILIES if model_type in FAMILIES[name].model_types]
    layer = next(layer for layer in range(8) if _has_experts(family, model, layer))
    stack = family.from_model(model, layer)
    return stack, find_center(stack)


def _has_experts(family: object, model: torch.nn.Module, layer: int) -> bool:
    try:
        family.experts_module(model, layer)
    except AttributeError:
        return False
    return True


@pytest.mark.parametrize("name", METHODS.names())
@pytest.mark.parametrize("model_type", PICO)
def test_every_family_keeps_the_contract(model_type: str, name: str) -> None:
    """Design matrices of every form: gated or not, with biases or without."""
    stack, center = _pico(model_type)
    hidden_size = stack.blocks[-1].stop - stack.blocks[-1].start
    calibration = statistics(stack.num_experts, stack.intermediate_size, hidden_size)
    options = {"center": center, "statistics": calibration}
    [row] = error_curves(stack, methods=[name], keeps=[0.5], **options).itertuples()
    layer = compress_layer(stack, method=name, keep=0.5, **options)
    assert row.error == pytest.approx(approximation_error(stack, layer), rel=1e-4, abs=1e-9)
    assert 0 < row.relative_error < 1
    assert forecast(METHODS[name](), stack.shape, keep=0.5) == weigh(layer)
