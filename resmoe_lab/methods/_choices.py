"""Choosing what is kept of a matrix: largest entries, largest singular values, largest neurons.

Each choice comes with its error at every kept fraction, from one sort or one spectrum.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from .._core.errors import UsageError
from ..store.matrices import LowRankMatrix, NeuronSubset, SeparateLowRankMatrix, SparseMatrix
from ._spectra import squared_spectrum
from ._sums import first_sums, smallest_sums
from ._whitening import Whitening


def kept_entries(size: int, keep: float) -> int:
    """How many of `size` entries (or neurons) are kept, at least one."""
    return max(1, round(keep * size))


def kept_rank(rows: int, columns: int, keep: float) -> int:
    """The rank k whose two factors hold a fraction `keep` of the entries: k (rows + columns) <= keep rows columns.

    Raises
    ------
    UsageError
        If not even rank 1 fits.

    References
    ----------
    ResMoE, appendix A.4 (for Mixtral with p_I = 3.5 p this is k = (6/13) keep p_I).
    """
    # The small term keeps a product that is whole in exact arithmetic from falling below itself.
    rank = int(keep * rows * columns / (rows + columns) + 1e-9)
    if rank < 1:
        least = (rows + columns) / (rows * columns)
        raise UsageError(f"keep {keep:g} leaves a {rows} x {columns} matrix no rank, expected at least {least:.4g}")
    return rank


def prune(matrix: torch.Tensor, keep: float, importance: torch.Tensor | None = None) -> SparseMatrix:
    """Keep the entries of largest magnitude, one threshold for the whole matrix (ResMoE, appendix A.3).

    Parameters
    ----------
    matrix
        (p_I, D).
    keep
        Kept fraction.
    importance
        Positive (p_I, D) factors of the magnitudes that are compared.
    """
    count = kept_entries(matrix.numel(), keep)
    if importance is None and matrix.device.type == "cpu" and matrix.dtype == torch.float32:
        from ._passes import keep_largest

        values, bits = keep_largest(matrix.contiguous().numpy(), count)
        return SparseMatrix(torch.from_numpy(values), torch.from_numpy(bits), matrix.shape[1])
    return SparseMatrix.where(largest(scores(matrix, importance), count), matrix)


def scores(matrix: torch.Tensor, importance: torch.Tensor | None) -> torch.Tensor:
    """Return what entries are ranked by: their magnitudes, times their importance."""
    return matrix.abs() if importance is None else matrix.abs() * importance


def largest(ranked: torch.Tensor, count: int) -> torch.Tensor:
    """Bool mask of exactly the `count` entries whose scores are largest; of equal ones, those that come first."""
    flat = ranked.flatten()
    least = _order_statistic(flat, len(flat) - count)
    mask = flat > least
    # A sum would convert the whole mask to int64.
    mask[(flat == least).nonzero()[: count - int(mask.count_nonzero()), 0]] = True
    return mask.view_as(ranked)


def _order_statistic(values: torch.Tensor, place: int) -> torch.Tensor:
    """The value at a place, from 0, of the sorted vector: for far less room and time than the places of the largest."""
    if values.device.type == "cpu" and values.dtype != torch.bfloat16:
        return torch.from_numpy(np.partition(values.numpy(), place)[place : place + 1])
    return values.kthvalue(place + 1).values


def prune_errors(matrix: torch.Tensor, keeps: Sequence[float], importance: torch.Tensor | None = None) -> list[float]:
    """Squared Frobenius error of :func:`prune` at every keep, from one look at the entries."""
    squares = matrix.flatten().square()
    dropped = [matrix.numel() - kept_entries(matrix.numel(), keep) for keep in keeps]
    if importance is None:
        return smallest_sums(squares, dropped)
    return first_sums(squares[scores(matrix, importance).flatten().argsort()], dropped)


def truncate(matrix: torch.Tensor, keep: float, whitening: Whitening | None = None) -> LowRankMatrix:
    """Keep the largest singular values (ResMoE, appendix A.4), those of the whitened matrix where one is given."""
    return keep_rank(matrix, kept_rank(matrix.shape[0], matrix.shape[1], keep), whitening)


def keep_rank(matrix: torch.Tensor, rank: int, whitening: Whitening | None = None) -> LowRankMatrix:
    """Keep `rank` singular values; they are multiplied into the left factor."""
    whitened = matrix if whitening is None else whitening.apply(matrix)
    left, values, right = torch.linalg.svd(whitened, full_matrices=False)
    right = right[:rank] if whitening is None else whitening.undo(right[:rank])
    return LowRankMatrix((left[:, :rank] * values[:rank]).contiguous(), right.contiguous())


def truncate_errors(matrix: torch.Tensor, keeps: Sequence[float], whitening: Whitening | None = None) -> list[float]:
    """Squared Frobenius error of :func:`truncate` at every keep, from one spectrum."""
    ranks = [kept_rank(matrix.shape[0], matrix.shape[1], keep) for keep in keeps]
    squares = squared_spectrum(matrix) if whitening is None else _unwhitened_squares(matrix, whitening)
    return _spectrum_errors(squares, ranks)


def truncate_separate(matrix: torch.Tensor, widths: Sequence[int], keep: float) -> SeparateLowRankMatrix:
    """Keep the largest singular values of each weight matrix by itself, as many of each as fit into all.

    Parameters
    ----------
    matrix
        (p_I, D).
    widths
        Columns of each weight matrix in it.
    keep
        Kept fraction of each.
    """
    rank = min(kept_rank(len(matrix), width, keep) for width in widths)
    return SeparateLowRankMatrix(tuple(keep_rank(part, rank) for part in matrix.split(list(widths), dim=1)))


def truncate_separate_errors(matrix: torch.Tensor, widths: Sequence[int], keeps: Sequence[float]) -> list[float]:
    """Squared Frobenius error of :func:`truncate_separate` at every keep, from one spectrum of each weight matrix."""
    ranks = [min(kept_rank(len(matrix), width, keep) for width in widths) for keep in keeps]
    curves = [_spectrum_errors(squared_spectrum(part), ranks) for part in matrix.split(list(widths), dim=1)]
    return [sum(errors) for errors in zip(*curves, strict=True)]


def _spectrum_errors(squares: torch.Tensor, ranks: Sequence[int]) -> list[float]:
    """What is left of squared singular values, smallest first, beyond each rank."""
    return first_sums(squares, [max(0, len(squares) - rank) for rank in ranks])


def _unwhitened_squares(matrix: torch.Tensor, whitening: Whitening) -> torch.Tensor:
    """Squared norm that each singular direction of the whitened matrix has in the matrix itself, smallest value first.

    The left vectors are orthonormal, so the squares add up whichever directions are dropped.
    """
    whitened = whitening.apply(matrix).double()
    values, vectors = torch.linalg.eigh(whitened.T @ whitened)
    lengths = whitening.undo(vectors.T.to(matrix.dtype)).double().square().sum(1)
    return values.clamp(min=0) * lengths


def prune_neurons(matrix: torch.Tensor, keep: float) -> NeuronSubset:
    """Keep the neurons of largest L1 norm (ResMoE, appendix A.3)."""
    count = kept_entries(matrix.shape[0], keep)
    places = neurons_by_norm(matrix)[-count:].sort().values
    return NeuronSubset(matrix[places], places, matrix.shape[0])


def prune_neurons_errors(matrix: torch.Tensor, keeps: Sequence[float]) -> list[float]:
    """Squared Frobenius error of :func:`prune_neurons` at every keep, from one sort."""
    # A row's own sum loses nothing in float32 that shows; those over rows are taken in float64.
    squares = torch.linalg.vector_norm(matrix, dim=1).double().square()[neurons_by_norm(matrix)]
    return first_sums(squares, [matrix.shape[0] - kept_entries(matrix.shape[0], keep) for keep in keeps])


def neurons_by_norm(matrix: torch.Tensor) -> torch.Tensor:
    """(p_I,) int64 neurons of a matrix in the order of their L1 norms, smallest first."""
    return torch.linalg.vector_norm(matrix, ord=1, dim=1).argsort(stable=True)
