"""What every method promises, whoever adds it."""

from functools import cache

import pytest
import torch

from resmoe_lab._core.errors import UsageError
from resmoe_lab.analysis.approximation import approximation_error, error_curves
from resmoe_lab.centers import Center, Statistics, find_center
from resmoe_lab.experts import FAMILIES, Block, ExpertStack
from resmoe_lab.methods import METHODS, compress_layer, forecast_ledger, storage_ledger
from resmoe_lab.store import Encoding, Storage, encoding_names
from resmoe_lab.store.encodings import BF16, FP32
from resmoe_lab.store.matrices import SparseMatrix

from ..experts.pico import PICO
from .calibrated import statistics

KEEPS = [0.25, 0.4, 0.5, 0.75, 1.0]
BLOCKS = (Block("w1", 0, 12), Block("w2", 12, 24))
STORAGES = [Storage(encoding=Encoding.parse(name)) for name in encoding_names()]
STORAGES += [Storage(encoding=BF16, center=Encoding.parse("int8"))]


def _storage_name(storage: Storage) -> str:
    return f"{storage.encoding.name}-{storage.center_encoding.name}"


def _is_sparse(name: str) -> bool:
    """Whether everything is there at keep 1; the largest rank that fits does not hold everything."""
    return METHODS[name].method.matrix_type is SparseMatrix


@pytest.fixture(scope="module")
def stack() -> ExpertStack:
    weights = torch.randn(3, 10, 24, generator=torch.Generator().manual_seed(5))
    return ExpertStack(weights, BLOCKS, layer=0)


@pytest.fixture(scope="module")
def center(stack: ExpertStack) -> Center:
    return find_center(stack)


@pytest.fixture(scope="module")
def calibrated() -> Statistics:
    return statistics(3, 10, 12)


@pytest.mark.parametrize(
    "storage", STORAGES, ids=lambda storage: f"{storage.encoding.name}-{storage.center_encoding.name}"
)
@pytest.mark.parametrize("name", METHODS.names())
def test_the_curve_is_the_error_of_what_is_restored(
    name: str, storage: Storage, stack: ExpertStack, center: Center, calibrated: Statistics
) -> None:
    """The slider's one sort or one spectrum against the experts themselves, as they are stored."""
    options = {"center": center, "statistics": calibrated, "storage": storage}
    curve = error_curves(stack, methods=[name], keeps=KEEPS, **options)
    for row in curve.itertuples():
        layer = compress_layer(stack, method=name, keep=row.keep, **options)
        assert row.error == pytest.approx(approximation_error(stack, layer), rel=1e-4, abs=1e-9)
        assert row.relative_error == pytest.approx(row.error / stack.mean_squared_norm(), rel=1e-9)
    assert curve.error.is_monotonic_decreasing


@pytest.mark.parametrize("name", [name for name in METHODS if METHODS[name].uses_center and _is_sparse(name)])
def test_a_center_that_is_rounded_costs_nothing_twice(name: str, stack: ExpertStack, center: Center) -> None:
    """Residuals are taken from the center as it is stored: with all of them kept exactly, nothing is lost."""
    storage = Storage(encoding=FP32, center=Encoding.parse("int8"))
    layer = compress_layer(
        stack, method=name, keep=1.0, center=center, statistics=statistics(3, 10, 12), storage=storage
    )
    assert layer.center is not None
    assert not torch.equal(layer.center.matrix, center.matrix)
    assert layer.approximation_error(stack) <= 1e-10 * stack.mean_squared_norm()


@pytest.mark.parametrize("storage", STORAGES, ids=_storage_name)
@pytest.mark.parametrize("name", METHODS.names())
def test_the_forecast_is_what_any_encoding_stores(
    name: str, storage: Storage, stack: ExpertStack, center: Center, calibrated: Statistics
) -> None:
    layer = compress_layer(stack, method=name, keep=0.5, center=center, statistics=calibrated, storage=storage)
    assert forecast_ledger(METHODS[name](), stack.shape, keep=0.5, storage=storage) == storage_ledger(layer)
    stored = sum(tensor.nbytes for tensor in layer.experts.state_dict().values())
    stored += sum(block.nbytes for block in layer.center_blocks)
    maps = sum(entry.nbytes for entry in storage_ledger(layer).entries if entry.item in ("map", "outputs"))
    assert storage_ledger(layer).true_bytes == stored + maps


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
    sizes = [storage_ledger(compress_layer(stack, keep=keep, **options)).true_bytes for keep in KEEPS]
    assert sizes == sorted(sizes)
    assert sizes[0] < sizes[-1]


@pytest.mark.parametrize("name", METHODS.names())
@pytest.mark.parametrize("keep", KEEPS)
def test_the_forecast_is_what_is_stored(
    name: str, keep: float, stack: ExpertStack, center: Center, calibrated: Statistics
) -> None:
    stored = storage_ledger(compress_layer(stack, method=name, keep=keep, center=center, statistics=calibrated))
    assert forecast_ledger(METHODS[name](), stack.shape, keep=keep) == stored


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
    assert forecast_ledger(METHODS[name](), stack.shape, keep=0.5) == storage_ledger(layer)
