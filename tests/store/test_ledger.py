"""Bytes against real serialisations and against published counts."""

import math

import numpy as np
import pytest

from resmoe_lab._core.errors import UsageError
from resmoe_lab.analysis.budget import match_bytes, model_ledger
from resmoe_lab.centers import find_center
from resmoe_lab.checkpoint import Checkpoint
from resmoe_lab.experts import ExpertStack, LayerShape, load_stack
from resmoe_lab.methods import METHODS, compress_layer, forecast_ledger, storage_ledger, weigh
from resmoe_lab.methods._choices import kept_rank
from resmoe_lab.store import EXACT_STORAGE, Encoding, Storage, encoding_names
from resmoe_lab.store.matrices import SparseMatrix

SHAPE = LayerShape(8, 96, (64, 64))


def test_a_bitmask_weighs_what_numpy_packs(random_stack: ExpertStack) -> None:
    layer = compress_layer(random_stack, method="up", keep=0.5)
    pieces = list(METHODS["up"]().compress_exact(random_stack, 0.5, None, None).matrices)
    ledger = storage_ledger(layer)
    really = sum(
        len(np.packbits(piece.mask.numpy(), axis=1).tobytes()) + len(piece.values.half().numpy().tobytes())
        for piece in pieces
        if isinstance(piece, SparseMatrix)
    )
    assert ledger.format == "bitmask"
    assert ledger.true_bytes == really
    assert ledger.paper_bytes == sum(2 * piece.count for piece in pieces)


def test_few_entries_are_cheaper_with_columns_than_with_bits() -> None:
    shape = LayerShape(1, 4, (2048, 2048))
    ledger = forecast_ledger(METHODS["up"](), shape, keep=12 / (4 * 4096))
    indices = np.zeros(12, np.uint16).nbytes + np.zeros(5, np.int32).nbytes
    assert ledger.format == "csr16"
    assert ledger.true_bytes == 12 * 2 + indices


def test_the_center_counts_once_and_only_in_true_bytes(random_stack: ExpertStack) -> None:
    center = find_center(random_stack)
    how = {"method": "resmoe-svd", "keep": 0.5, "center": center}
    layer = compress_layer(random_stack, **how)
    ledger = storage_ledger(layer)
    factors = sum(layer.layout.counts) * (7 + 12)
    assert ledger.paper_bytes == 2 * factors
    assert ledger.true_bytes == 2 * factors + 2 * 7 * 12
    assert ledger.original_bytes == 2 * 5 * 7 * 12
    exact = compress_layer(random_stack, **how, storage=EXACT_STORAGE)
    assert storage_ledger(exact).true_bytes == 2 * ledger.true_bytes
    with pytest.warns(DeprecationWarning, match="storage_ledger"):
        assert weigh(layer, value_bytes=4).true_bytes == 2 * ledger.true_bytes


def _meta_layer(kind: str, experts: int, rows: int, columns: int, keep: float) -> float:
    """Share of an expert layer that is left, center included, for shapes too large to fill."""
    dense_bytes = experts * rows * columns * 2
    center = rows * columns * 2
    if kind == "low-rank":
        return (experts * 2 * kept_rank(rows, columns, keep) * (rows + columns) + center) / dense_bytes
    return (experts * (keep * rows * columns * 2 + rows * columns / 8) + center) / dense_bytes


@pytest.mark.parametrize(("kind", "published"), [("low-rank", 0.547), ("bitmask", 0.593)])
def test_what_is_left_of_mixtral(kind: str, published: float) -> None:
    """Mixtral-8x7B, 24 of 32 layers at keep 0.25: 54.7 % and 59.3 % of the model's bytes remain."""
    expert, layers, rest = 14336 * 12288, 32, 46_702_792_704 - 32 * 8 * 14336 * 12288
    share = _meta_layer(kind, 8, 14336, 12288, 0.25)
    left = (layers - 24) * 8 * expert + 24 * 8 * expert * share + rest
    assert left / 46_702_792_704 == pytest.approx(published, abs=5e-4)


@pytest.mark.parametrize("encoding", encoding_names())
@pytest.mark.parametrize("name", METHODS.names())
def test_equal_bytes(name: str, encoding: str) -> None:
    """The matched keep fits into the budget, and a little more would not: checked against forecasts."""
    storage = Storage(encoding=Encoding.parse(encoding))
    method, bits = METHODS[name](), storage.encoding.bits
    # Who goes by bits has the same codes in every encoding: five and a half bits a weight. A center is paid for.
    whole = 8 * 96 * 128 * (11 if method.by_bits else bits) // 8
    budget = 0.5 * whole + method.uses_center * 96 * 128 * storage.center_encoding.bits // 8
    keep = match_bytes(method, budget, SHAPE, storage=storage)
    assert forecast_ledger(method, SHAPE, keep=keep, storage=storage).true_bytes <= budget
    if method.grows and keep < 1:  # methods that go by bits never take more than 16
        more = min(1.0, keep + 1e-9)
        assert forecast_ledger(method, SHAPE, keep=more, storage=storage).true_bytes > budget
    assert match_bytes(method, 10 * whole, SHAPE, storage=storage) == 1.0


def test_a_center_is_paid_for() -> None:
    budget = 0.5 * 8 * 96 * 128 * 2
    plain, residual = (match_bytes(METHODS[name](), budget, SHAPE) for name in ("up", "resmoe-up"))
    assert plain - residual == pytest.approx(1 / 8, abs=1e-4)
    assert match_bytes(METHODS["resmoe-up"](), budget, SHAPE, center=False) == plain


@pytest.mark.parametrize("name", ["resmoe-up", "svd", "meo"])
def test_a_budget_that_nothing_fits_into(name: str) -> None:
    with pytest.raises(UsageError, match=r"a budget of 100 bytes a layer is too small .*, expected at least [1-9]"):
        match_bytes(METHODS[name](), 100, SHAPE)


def test_the_ledger_of_a_model_leaves_nothing_out(pico_checkpoint: Checkpoint) -> None:
    """Uncompressed, the items add up to the files' tensors; compressed, only the chosen layer's experts change."""
    numbers = sum(math.prod(info.shape) for info in pico_checkpoint.tensors.values())
    ledger = model_ledger(pico_checkpoint, {}, value_bytes=4)
    assert ledger.true_bytes == ledger.original_bytes == 4 * numbers
    items = {entry.item: entry.nbytes for entry in ledger.entries}
    assert items["router"] == 4 * 2 * 4 * 8
    assert items["untouched experts"] == 4 * 2 * 4 * 3 * 8 * 12
    stack = load_stack(pico_checkpoint, layer=1)
    layer = storage_ledger(compress_layer(stack, method="meo", keep=0.5))
    some = model_ledger(pico_checkpoint, {1: layer})
    assert some.original_bytes - some.true_bytes == layer.original_bytes - layer.true_bytes
    assert next(entry.nbytes for entry in some.entries if entry.item == "map") == 4 * 2
