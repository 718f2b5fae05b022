"""Bytes against real serialisations and against published counts."""

import numpy as np
import pytest
import torch

from resmoe_lab.centers import find_center
from resmoe_lab.experts import ExpertStack
from resmoe_lab.methods import CompressedLayer, LowRank, Sparse, compress_layer
from resmoe_lab.methods._choices import kept_rank
from resmoe_lab.store import weigh


def test_a_bitmask_weighs_what_numpy_packs(random_stack: ExpertStack) -> None:
    layer = compress_layer(random_stack, method="up", keep=0.5)
    ledger = weigh(layer)
    really = sum(
        len(np.packbits(piece.mask.numpy(), axis=1).tobytes()) + len(piece.values.half().numpy().tobytes())
        for piece in layer.pieces
        if isinstance(piece, Sparse)
    )
    assert ledger.format == "bitmask"
    assert ledger.true_bytes == really
    assert ledger.paper_bytes == sum(piece.values.numel() * 2 for piece in layer.pieces if isinstance(piece, Sparse))


def test_few_entries_are_cheaper_with_columns_than_with_bits() -> None:
    mask = torch.zeros(4, 4096, dtype=torch.bool)
    mask[:, :3] = True
    ledger = weigh(CompressedLayer("up", 0.001, (Sparse(torch.ones(12), mask),), None))
    indices = np.zeros(12, np.uint16).nbytes + np.zeros(5, np.int32).nbytes
    assert ledger.format == "csr16"
    assert ledger.true_bytes == 12 * 2 + indices


def test_the_center_counts_once_and_only_in_true_bytes(random_stack: ExpertStack) -> None:
    common = find_center(random_stack)
    layer = compress_layer(random_stack, method="resmoe-svd", keep=0.5, common=common)
    ledger = weigh(layer)
    factors = sum(piece.left.numel() + piece.right.numel() for piece in layer.pieces if isinstance(piece, LowRank))
    assert ledger.paper_bytes == 2 * factors
    assert ledger.true_bytes == 2 * factors + 2 * 7 * 12
    assert ledger.original_bytes == 2 * 5 * 7 * 12
    assert weigh(layer, value_bytes=4).true_bytes == 2 * ledger.true_bytes


def _meta_layer(kind: str, experts: int, rows: int, columns: int, keep: float) -> float:
    """Share of an expert layer that is left, center included, for shapes too large to fill."""
    whole = experts * rows * columns * 2
    center = rows * columns * 2
    if kind == "low-rank":
        return (experts * 2 * kept_rank(rows, columns, keep) * (rows + columns) + center) / whole
    return (experts * (keep * rows * columns * 2 + rows * columns / 8) + center) / whole


@pytest.mark.parametrize(("kind", "published"), [("low-rank", 0.547), ("bitmask", 0.593)])
def test_what_is_left_of_mixtral(kind: str, published: float) -> None:
    """Mixtral-8x7B, 24 of 32 layers at keep 0.25: 54.7 % and 59.3 % of the model's bytes remain."""
    expert, layers, rest = 14336 * 12288, 32, 46_702_792_704 - 32 * 8 * 14336 * 12288
    share = _meta_layer(kind, 8, 14336, 12288, 0.25)
    left = (layers - 24) * 8 * expert + 24 * 8 * expert * share + rest
    assert left / 46_702_792_704 == pytest.approx(published, abs=5e-4)
