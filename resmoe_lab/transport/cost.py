"""Squared distances between neurons, and the objective that the center is judged by."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .._core.errors import WeightError

#: Rows that are widened to float64 at a time when objectives are summed up.
BLOCK_ROWS = 512


def row_norms(rows: Tensor) -> Tensor:
    """Return the squared norm of every row, summed in float64: (n, D) -> (n,)."""
    blocks = [block.double().square().sum(1) for block in rows.split(BLOCK_ROWS)]
    return torch.cat(blocks) if blocks else rows.new_zeros(0, dtype=torch.float64)


def squared_distances(a: Tensor, b: Tensor, *, out: Tensor | None = None) -> Tensor:
    """Squared Euclidean distances between the rows of two matrices.

    Parameters
    ----------
    a, b
        Rows, (n, D) and (m, D), of any float dtype and on one device.
    out
        A float32 (n, m) buffer to write into; the matrix is never held twice.

    Returns
    -------
    Tensor
        (n, m) float32, never negative. ``|a|^2 + |b|^2 - 2 <a, b>`` with the norms summed in float64.

    Raises
    ------
    WeightError
        If the widths differ.

    References
    ----------
    The cost matrix C below the paper's equation (2), appendix C.
    """
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1]:
        raise WeightError(
            f"rows of shapes {tuple(a.shape)} and {tuple(b.shape)} cannot be compared, expected (n, D) and (m, D): "
            "give both experts the same blocks of columns"
        )
    scores(a, b, out=(out := a.new_empty(len(a), len(b), dtype=torch.float32) if out is None else out))
    out.mul_(-2).add_(row_norms(a).float()[:, None]).add_(row_norms(b).float())
    return out.clamp_(min=0)


def scores(a: Tensor, b: Tensor, *, out: Tensor) -> Tensor:
    """Write the inner products of the rows of `a` (n, D) with those of `b` (m, D) into `out` (n, m), float32."""
    return torch.mm(a.float(), b.float().T, out=out)


def objective(
    stack: Tensor | Sequence[Tensor], permutations: Tensor, center: Tensor, weights: Tensor | None = None
) -> float:
    """The barycenter's objective, ``sum_k w_k ||W_k[T_k] - center||_F^2``.

    Parameters
    ----------
    stack
        N design matrices, (N, p_I, D).
    permutations
        (N, p_I) int64: row i of the aligned expert k is ``stack[k][permutations[k, i]]``.
    center
        (p_I, D).
    weights
        (N,) non-negative; 1/N each if left out. Their sum is scaled to 1.

    Returns
    -------
    float
        Accumulated in float64.

    References
    ----------
    The paper's equation (4).
    """
    shares = torch.full((len(stack),), 1.0 / len(stack)) if weights is None else weights / weights.sum()
    total = 0.0
    for rows, order, share in zip(stack, permutations, shares.tolist(), strict=True):
        order = order.to(rows.device)
        for start in range(0, len(center), BLOCK_ROWS):
            part = slice(start, start + BLOCK_ROWS)
            difference = rows[order[part]].double() - center[part].double()
            total += share * float(difference.square().sum())
    return total
