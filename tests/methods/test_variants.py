"""Structured pruning, clustering, and the options beyond the paper: what makes each special."""

from itertools import combinations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.cluster import KMeans

from resmoe_lab.centers import Center, Statistics, find_center
from resmoe_lab.experts import Block, ExpertStack
from resmoe_lab.methods import METHODS, compress_layer
from resmoe_lab.store import EXACT_STORAGE
from resmoe_lab.store.matrices import CompressedMatrix, LowRankMatrix, NeuronClusters, NeuronSubset, SparseMatrix

from .calibrated import statistics

P = 4
BLOCKS = (Block("w1", 0, P), Block("b1", P, P + 1), Block("w2", P + 1, 2 * P + 1))


def _stack(count: int = 3, neurons: int = 8, *, seed: int = 0) -> ExpertStack:
    generator = torch.Generator().manual_seed(seed)
    sizes = torch.arange(1, count + 1)[:, None, None]
    return ExpertStack(sizes * torch.randn(count, neurons, 2 * P + 1, generator=generator), BLOCKS, layer=0)


def _matrices(
    name: str, stack: ExpertStack, keep: float, center: Center | None = None, given: Statistics | None = None
) -> list[CompressedMatrix]:
    """What a method makes of each expert before anything is rounded."""
    return list(METHODS[name]().compress_exact(stack, keep, center, given).matrices)


def _run(x: torch.Tensor, expert: torch.Tensor, scale: torch.Tensor | None = None) -> torch.Tensor:
    hidden = torch.relu(x @ expert[:, :P].T + expert[:, P])
    return hidden @ (expert[:, P + 1 :] if scale is None else scale[:, None] * expert[:, P + 1 :])


def _inputs(n: int = 16) -> torch.Tensor:
    return torch.randn(n, P, generator=torch.Generator().manual_seed(3))


def test_structured_pruning_keeps_the_neurons_of_largest_l1_norm() -> None:
    stack = _stack()
    for piece, weights in zip(_matrices("sp", stack, 0.25), stack.weights, strict=True):
        assert isinstance(piece, NeuronSubset)
        kept_rows = set(piece.places.tolist())
        norms = weights.abs().sum(1)
        assert len(kept_rows) == 2
        assert all(norms[i] <= min(norms[j] for j in kept_rows) for i in set(range(8)) - kept_rows)
        torch.testing.assert_close(_run(_inputs(), piece.rows), _run(_inputs(), piece.restore()))


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), neurons=st.integers(2, 24), keep=st.floats(0.05, 1.0))
def test_the_identity_of_appendix_a5_holds_for_what_is_stored(seed: int, neurons: int, keep: float) -> None:
    """Centroids with W2 scaled by the clusters' sizes compute what the restored expert C^T W~ computes."""
    piece = METHODS["mlp-fusion"]().compress_matrix(_stack(1, neurons, seed=seed).weights[0].double(), keep)
    assert isinstance(piece, NeuronClusters)
    sizes = piece.labels.bincount(minlength=len(piece.centroids)).double()
    x = _inputs().double()
    torch.testing.assert_close(_run(x, piece.centroids, sizes), _run(x, piece.restore()))


def test_clustering_is_scikit_learns() -> None:
    matrix = _stack(1, 40).weights[0]
    piece = METHODS["mlp-fusion"](seed=7).compress_matrix(matrix, 0.25)
    clustering = KMeans(10, n_init=1, random_state=7).fit(matrix.numpy())
    assert float((matrix - piece.restore()).square().sum()) == pytest.approx(clustering.inertia_, rel=1e-4)


def test_another_seed_clusters_differently() -> None:
    matrix = _stack(1, 60).weights[0]
    first, again, other = (METHODS["mlp-fusion"](seed=seed).compress_matrix(matrix, 0.3) for seed in (0, 0, 1))
    assert torch.equal(first.labels, again.labels)
    assert not torch.equal(first.labels, other.labels)


def test_one_pool_of_entries_is_the_best_choice_over_the_whole_layer() -> None:
    """Brute force over all choices of six of twelve entries in two experts."""
    blocks = (Block("w1", 0, 1), Block("w2", 1, 2))
    weights = torch.randn(2, 3, 2, generator=torch.Generator().manual_seed(1)) * torch.tensor([1.0, 3.0])[:, None, None]
    stack = ExpertStack(weights, blocks, layer=0)
    none = find_center(stack, center="none")
    error = METHODS["resmoe-up-pooled"]().errors(stack, [0.5], none, storage=EXACT_STORAGE)[0]
    squares = weights.flatten().double().square()
    best = min(float(squares.sum() - squares[list(choice)].sum()) for choice in combinations(range(12), 6)) / 2
    assert error == pytest.approx(best)
    counts = compress_layer(stack, method="resmoe-up-pooled", keep=0.5, center=none).layout.counts
    assert sum(counts) == 6
    assert counts[1] > counts[0]


@pytest.mark.parametrize("plain", ["resmoe-up", "resmoe-svd"])
def test_a_pool_never_loses_to_equal_shares(plain: str) -> None:
    stack = _stack(4, 16)
    center = find_center(stack)
    pooled, fixed = (METHODS[name]().errors(stack, [0.4, 0.8], center) for name in (f"{plain}-pooled", plain))
    assert all(a < b for a, b in zip(pooled, fixed, strict=True))


def test_a_pool_gives_no_rank_to_an_expert_that_is_the_center() -> None:
    stack = _stack(3, 16)
    weights = torch.cat([stack.weights.mean(0, keepdim=True), stack.weights])
    stack = stack.with_weights(weights)
    center = find_center(stack, center="average")
    pieces = _matrices("resmoe-svd-pooled", stack, 0.4, center)
    assert all(isinstance(piece, LowRankMatrix) for piece in pieces)
    ranks = [piece.count for piece in pieces]
    stored = compress_layer(stack, method="resmoe-svd-pooled", keep=0.4, center=center, storage=EXACT_STORAGE)
    assert stored.layout.counts == tuple(ranks)
    assert ranks[0] == 0
    assert sum(ranks) == 4 * int(0.4 * 16 * 9 / 25)


def test_awareness_keeps_the_weights_that_inputs_and_neurons_use() -> None:
    """The score written out, with the neurons in the center's order."""
    stack = _stack()
    center, calibrated = find_center(stack), statistics(3, 8, P)
    pieces = _matrices("resmoe-up-aware", stack, 0.25, center, calibrated)
    for k, (residual, piece) in enumerate(zip(center.residuals(stack), pieces, strict=True)):
        assert isinstance(piece, SparseMatrix)
        size = torch.ones_like(residual)
        size[:, :P] = calibrated.inputs[k].sqrt()
        size[:, P + 1 :] = calibrated.neurons[k][center.permutations[k]].sqrt()[:, None]
        score = residual.abs() * size
        assert float(score[piece.mask].min()) >= float(score[~piece.mask].max())


def test_whitening_is_nearest_on_the_inputs_themselves() -> None:
    """Before W2, the whitened truncation errs less on the calibration inputs than the plain one of equal rank."""
    stack = _stack(3, 24)
    center, calibrated = find_center(stack), statistics(3, 24, P)
    root = torch.linalg.cholesky(calibrated.moments.double())

    def output_error(name: str) -> float:
        residuals = zip(center.residuals(stack), _matrices(name, stack, 0.5, center, calibrated), strict=True)
        return sum(float(((r - piece.restore())[:, :P].double() @ root).square().sum()) for r, piece in residuals)

    assert output_error("resmoe-svd-white") < 0.9 * output_error("resmoe-svd")


def test_white_inputs_change_nothing() -> None:
    from dataclasses import replace

    stack = _stack(3, 24)
    center, calibrated = find_center(stack), replace(statistics(3, 24, P), moments=2.5 * torch.eye(P))
    white, plain = (
        torch.stack([piece.restore() for piece in _matrices(name, stack, 0.5, center, calibrated)])
        for name in ("resmoe-svd-white", "resmoe-svd")
    )
    torch.testing.assert_close(white, plain, atol=1e-4, rtol=1e-4)
