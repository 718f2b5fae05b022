"""Pruning and truncation against brute force and torch's own decomposition, and the paper's rank counts."""

from fractions import Fraction
from itertools import combinations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.cluster import KMeans

from resmoe_lab._core.errors import UsageError
from resmoe_lab.methods._choices import kept_rank, largest, prune, prune_errors, truncate, truncate_errors
from resmoe_lab.store.matrices import SparseMatrix


def _matrix(rows: int, columns: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed))


def test_no_other_choice_of_entries_is_better() -> None:
    matrix = _matrix(3, 4)
    pruned = prune(matrix, 0.25)
    assert pruned.values.numel() == 3
    flat = matrix.flatten().double()
    best = min(float(flat.square().sum() - flat[list(choice)].square().sum()) for choice in combinations(range(12), 3))
    assert float((matrix.double() - pruned.restore().double()).square().sum()) == pytest.approx(best)


def test_equal_entries_keep_the_exact_count() -> None:
    assert prune(torch.ones(4, 4), 0.25).values.numel() == 4


def test_keeping_everything_changes_nothing() -> None:
    matrix = _matrix(5, 6)
    assert torch.equal(prune(matrix, 1.0).restore(), matrix)
    assert prune_errors(matrix, [1.0]) == [0.0]


def test_no_matrix_of_that_rank_is_nearer() -> None:
    """Eckart-Young: the error is the sum of the squared singular values that are left out."""
    matrix = _matrix(20, 30)
    truncated = truncate(matrix, 0.25)
    values = torch.linalg.svdvals(matrix.double())
    rank = truncated.left.shape[1]
    assert torch.linalg.matrix_rank(truncated.restore().double(), rtol=1e-5) == rank
    expected = float(values[rank:].square().sum())
    assert float((matrix.double() - truncated.restore().double()).square().sum()) == pytest.approx(expected, rel=1e-5)
    assert truncate_errors(matrix, [0.25])[0] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("p", "intermediate", "matrices", "factor"),
    [
        (768, 3072, 2, Fraction(1, 3)),  # Switch Transformer: k = s p_I / 3
        (4096, 14336, 3, Fraction(6, 13)),  # Mixtral: k = 6/13 s p_I
        (2048, 1408, 3, Fraction(48, 59)),  # DeepSeekMoE: k = 48/59 s p_I
    ],
)
def test_the_rank_counts_of_appendix_a4(p: int, intermediate: int, matrices: int, factor: Fraction) -> None:
    assert kept_rank(intermediate, matrices * p, 0.25) == int(factor * intermediate / 4)


@given(rows=st.integers(2, 200), columns=st.integers(2, 200), keep=st.floats(0.1, 1.0))
def test_the_factors_never_hold_more_than_keep(rows: int, columns: int, keep: float) -> None:
    if keep * rows * columns < rows + columns:
        with pytest.raises(UsageError, match="no rank, expected at least"):
            kept_rank(rows, columns, keep)
        return
    rank = kept_rank(rows, columns, keep)
    assert rank * (rows + columns) <= keep * rows * columns * (1 + 1e-9)
    assert (rank + 1) * (rows + columns) > keep * rows * columns * (1 - 1e-9)


def test_the_identity_of_appendix_a5() -> None:
    """Scaling centroids by cluster size computes what restoring C^T W~ computes; the error is k-means' inertia."""
    p, neurons, clusters = 5, 24, 6
    expert = _matrix(neurons, 2 * p + 1, seed=3)  # [W1, b1, W2^T]
    kmeans = KMeans(clusters, n_init=3, random_state=0).fit(expert.double().numpy())
    assignment = torch.nn.functional.one_hot(torch.from_numpy(kmeans.labels_).long(), clusters).T.double()  # C (c, p_I)
    centroids = torch.from_numpy(kmeans.cluster_centers_)
    restored = assignment.T @ centroids
    x = _matrix(4, p, seed=4).double()

    def forward(rows: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
        hidden = torch.relu(x @ rows[:, :p].T + rows[:, p])
        return hidden @ (scale[:, None] * rows[:, p + 1 :])

    sizes = (assignment @ assignment.T).diagonal()
    torch.testing.assert_close(forward(centroids, sizes), forward(restored, torch.ones(neurons).double()))
    assert float((expert.double() - restored).square().sum()) == pytest.approx(kmeans.inertia_, rel=1e-6)


def test_of_equal_entries_as_many_are_kept_as_there_is_room_for() -> None:
    matrix = torch.tensor([[1.0, -1.0, 2.0], [1.0, 0.0, -1.0]])
    for count in range(1, 7):
        pruned = SparseMatrix.where(largest(matrix.abs(), count), matrix)
        assert pruned.values.numel() == count
        expected = sorted(matrix.abs().flatten().tolist(), reverse=True)[:count]
        assert sorted(pruned.values.abs().tolist(), reverse=True) == expected
    assert torch.equal(largest(matrix.abs(), 3), torch.tensor([[True, True, True], [False] * 3]))
