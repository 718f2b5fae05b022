"""What every method promises, whoever adds it."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from resmoe_lab._core.errors import UsageError
from resmoe_lab.centers import CommonExpert, find_center
from resmoe_lab.evaluate.approximation import approximation_error, error_curves
from resmoe_lab.experts import ExpertStack
from resmoe_lab.methods import METHODS, compress_layer
from resmoe_lab.store import forecast, weigh

KEEPS = [0.25, 0.4, 0.5, 0.75, 1.0]


@pytest.fixture
def stack() -> ExpertStack:
    weights = torch.randn(3, 10, 12, generator=torch.Generator().manual_seed(5))
    return ExpertStack(weights, (), layer=0)


@pytest.fixture
def common(stack: ExpertStack) -> CommonExpert:
    return find_center(stack)


@pytest.mark.parametrize("name", METHODS.names())
def test_the_curve_is_the_error_of_what_is_restored(name: str, stack: ExpertStack, common: CommonExpert) -> None:
    """The slider's one sort or one spectrum against the experts themselves."""
    curve = error_curves(stack, methods=[name], keeps=KEEPS, common=common)
    for row in curve.itertuples():
        layer = compress_layer(stack, method=name, keep=row.keep, common=common)
        assert row.error == pytest.approx(approximation_error(stack, layer), rel=1e-4, abs=1e-9)
        assert row.relative_error == pytest.approx(row.error / stack.mean_squared_norm(), rel=1e-9)
    assert curve.error.is_monotonic_decreasing


@pytest.mark.parametrize("name", METHODS.names())
def test_restored_experts_have_the_stacks_form(name: str, stack: ExpertStack, common: CommonExpert) -> None:
    layer = compress_layer(stack, method=name, keep=0.5, common=common)
    restored = layer.restore()
    assert restored.shape == stack.weights.shape
    assert restored.dtype == stack.weights.dtype
    assert torch.isfinite(restored).all()
    assert (layer.common is None) == (not METHODS[name].uses_center)
    assert torch.equal(restored, layer.restore())


@pytest.mark.parametrize("name", METHODS.names())
def test_more_is_kept_for_more_bytes(name: str, stack: ExpertStack, common: CommonExpert) -> None:
    sizes = [weigh(compress_layer(stack, method=name, keep=keep, common=common)).true_bytes for keep in KEEPS]
    assert sizes == sorted(sizes)
    assert sizes[0] < sizes[-1]


@pytest.mark.parametrize("name", METHODS.names())
@pytest.mark.parametrize("keep", KEEPS)
def test_the_forecast_is_what_is_stored(name: str, keep: float, stack: ExpertStack, common: CommonExpert) -> None:
    shape = {"num_experts": 3, "rows": 10, "columns": 12}
    stored = weigh(compress_layer(stack, method=name, keep=keep, common=common))
    assert forecast(METHODS[name](), keep=keep, **shape) == stored


@pytest.mark.parametrize("name", METHODS.names())
@pytest.mark.parametrize("keep", [0.0, -1.0, 1.5, float("nan")])
def test_keep_out_of_range(name: str, keep: float, stack: ExpertStack, common: CommonExpert) -> None:
    with pytest.raises(UsageError, match=r"keep is .*, expected a number in \(0, 1\]"):
        compress_layer(stack, method=name, keep=keep, common=common)


@pytest.mark.parametrize("name", [name for name in METHODS.names() if METHODS[name].uses_center])
def test_a_residual_method_asks_for_its_center(name: str, stack: ExpertStack) -> None:
    with pytest.raises(UsageError, match="needs a center"):
        compress_layer(stack, method=name, keep=0.5)


@pytest.mark.parametrize("name", METHODS.names())
def test_experts_of_zeros_stay_zeros(name: str) -> None:
    stack = ExpertStack(torch.zeros(3, 10, 12), (), layer=0)
    layer = compress_layer(stack, method=name, keep=0.5, common=find_center(stack))
    assert not layer.restore().any()


@settings(max_examples=20, deadline=None)
@given(scale=st.floats(1e-3, 1e3), seed=st.integers(0, 1000))
@pytest.mark.parametrize("name", METHODS.names())
def test_the_relative_error_does_not_know_the_scale(name: str, scale: float, seed: int) -> None:
    weights = torch.randn(3, 8, 9, generator=torch.Generator().manual_seed(seed))
    errors = []
    for factor in (1.0, scale):
        stack = ExpertStack(weights * factor, (), layer=0)
        table = error_curves(stack, methods=[name], keeps=[0.5], common=find_center(stack))
        errors.append(table.relative_error[0])
    assert errors[1] == pytest.approx(errors[0], rel=1e-3, abs=1e-9)
