"""What is left of one matrix after compression, and how it is chosen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

from .._core.errors import UsageError


class Piece(Protocol):
    """A stored form of one (p_I, D) matrix."""

    @property
    def shape(self) -> tuple[int, int]:
        """(p_I, D)."""

    def restore(self) -> torch.Tensor:
        """Return the (p_I, D) matrix that the piece stands for."""


@dataclass(frozen=True)
class Sparse:
    """Some entries of a matrix, the others zero.

    Parameters
    ----------
    values
        (nonzeros,) float tensor, in row-major order.
    mask
        (p_I, D) bool tensor, true where a value is kept.
    """

    values: torch.Tensor
    mask: torch.Tensor

    @property
    def shape(self) -> tuple[int, int]:
        """(p_I, D)."""
        return self.mask.shape[0], self.mask.shape[1]

    def restore(self) -> torch.Tensor:
        """Return the (p_I, D) matrix with the values in their places."""
        matrix = torch.zeros(self.mask.shape, dtype=self.values.dtype, device=self.values.device)
        matrix[self.mask] = self.values
        return matrix


@dataclass(frozen=True)
class LowRank:
    """A product of two thin matrices; the singular values are inside `left`.

    Parameters
    ----------
    left, right
        (p_I, k) and (k, D) float tensors.
    """

    left: torch.Tensor
    right: torch.Tensor

    @property
    def shape(self) -> tuple[int, int]:
        """(p_I, D)."""
        return self.left.shape[0], self.right.shape[1]

    def restore(self) -> torch.Tensor:
        """Return the (p_I, D) product."""
        return self.left @ self.right


def kept_entries(size: int, keep: float) -> int:
    """How many of `size` entries are kept, at least one."""
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


def prune(matrix: torch.Tensor, keep: float) -> Sparse:
    """Keep the entries of largest magnitude, one threshold for the whole matrix (ResMoE, appendix A.3)."""
    count = kept_entries(matrix.numel(), keep)
    order = torch.topk(matrix.abs().flatten(), count, sorted=False).indices
    mask = torch.zeros(matrix.numel(), dtype=torch.bool, device=matrix.device)
    mask[order] = True
    mask = mask.view_as(matrix)
    return Sparse(matrix[mask], mask)


def prune_outline(rows: int, columns: int, keep: float) -> Sparse:
    """The form of what :func:`prune` returns, on the meta device: sizes without contents."""
    values = torch.empty(kept_entries(rows * columns, keep), device="meta")
    return Sparse(values, torch.empty(rows, columns, dtype=torch.bool, device="meta"))


def prune_errors(matrix: torch.Tensor, keeps: Sequence[float]) -> list[float]:
    """Squared Frobenius error of :func:`prune` at every keep, from one sort."""
    squares = matrix.flatten().square().sort(descending=False).values.double()
    dropped = torch.cat([squares.new_zeros(1), squares.cumsum(0)])
    return [float(dropped[matrix.numel() - kept_entries(matrix.numel(), keep)]) for keep in keeps]


def truncate(matrix: torch.Tensor, keep: float) -> LowRank:
    """Keep the largest singular values (ResMoE, appendix A.4)."""
    rank = kept_rank(matrix.shape[0], matrix.shape[1], keep)
    left, values, right = torch.linalg.svd(matrix, full_matrices=False)
    return LowRank(left[:, :rank] * values[:rank], right[:rank])


def truncate_outline(rows: int, columns: int, keep: float) -> LowRank:
    """The form of what :func:`truncate` returns, on the meta device: sizes without contents."""
    rank = kept_rank(rows, columns, keep)
    return LowRank(torch.empty(rows, rank, device="meta"), torch.empty(rank, columns, device="meta"))


def truncate_errors(matrix: torch.Tensor, keeps: Sequence[float]) -> list[float]:
    """Squared Frobenius error of :func:`truncate` at every keep, from one spectrum."""
    squares = torch.linalg.svdvals(matrix).double().square().flip(0)
    dropped = torch.cat([squares.new_zeros(1), squares.cumsum(0)])
    return [float(dropped[len(squares) - kept_rank(matrix.shape[0], matrix.shape[1], keep)]) for keep in keeps]
