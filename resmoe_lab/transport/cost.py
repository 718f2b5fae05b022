"""Squared distances between neurons, and the objective of a center."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .._core.errors import WeightError
from .._core.precision import bfloat16_products, float32_products
from .rows import BLOCK_ENTRIES as BLOCK_ENTRIES
from .rows import Rows, as_rows, blocks, normalized

#: Entries of a buffer that is reused for block after block.
BUFFER_ENTRIES = 1 << 18
#: Columns that are converted to float32 at a time.
COLUMNS = 1024


def row_norms(rows: Tensor | Rows) -> Tensor:
    """Return the squared norm of every row, summed in float64: (n, D) -> (n,)."""
    rows = as_rows(rows)
    parts = [torch.linalg.vector_norm(rows.block(part), dim=1, dtype=torch.float64) for part in blocks(*rows.shape)]
    return torch.cat(parts).square()


def nearest(rows: Tensor) -> Tensor:
    """Return the column of each row's minimum; on the CPU numpy is several times faster at it than torch."""
    return torch.from_numpy(rows.numpy().argmin(1)) if rows.device.type == "cpu" else rows.argmin(1)


def rounding(width: int) -> float:
    """Bound the rounding error of a computed inner product <a, b> of `width` terms, relative to |a| |b|.

    Rounding errors of float32 sums grow with the root of the number of terms; this is several standard deviations.
    """
    return 2.0**-23 * width**0.5


def squared_distances(a: Tensor, b: Tensor, *, out: Tensor | None = None) -> Tensor:
    """Compute the squared Euclidean distances between the rows of two matrices.

    Parameters
    ----------
    a, b
        Rows, (n, D) and (m, D), of any float dtype and on one device.
    out
        Optional (n, m) float32 buffer for the result; the matrix is never held twice.

    Returns
    -------
    Tensor
        (n, m) float32, never negative: ``|a|^2 + |b|^2 - 2 <a, b>`` with the norms summed in float64. A vector that all
        rows share is subtracted first, so that it costs no digits. Infinite where float32 cannot hold the distance;
        :func:`scaled_distances` has no such limit.

    Raises
    ------
    WeightError
        If the widths differ.

    References
    ----------
    The cost matrix C below equation (2) of the paper's appendix C.

    Examples
    --------
    >>> squared_distances(torch.tensor([[0.0, 0.0], [3.0, 4.0]]), torch.tensor([[0.0, 1.0]]))
    tensor([[ 1.],
            [18.]])
    """
    distances, unit = scaled_distances(a, b, out=out)
    return distances if unit == 1 else distances.copy_(distances.double() * unit)


def scaled_distances(a: Tensor, b: Tensor, *, out: Tensor | None = None) -> tuple[Tensor, float]:
    """Compute what :func:`squared_distances` does in a unit that float32 can hold, whatever the rows' size.

    Returns
    -------
    distances, unit
        (n, m) float32, and the power of two that they are to be multiplied by.

    Raises
    ------
    WeightError
        If the widths differ.
    """
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1]:
        raise WeightError(
            f"rows of shapes {tuple(a.shape)} and {tuple(b.shape)} cannot be compared, expected (n, D) and (m, D): "
            "give both experts the same blocks of columns"
        )
    first, second = normalized([a, b], together=True)
    return distances_between(first, second, out=out), first.scale**-2


def distances_between(a: Rows, b: Rows, *, out: Tensor | None = None) -> Tensor:
    """Compute the squared distances between rows of the same shift and scale, (n, m) float32."""
    out = torch.empty(len(a), len(b), device=a.device) if out is None else out
    add_products(out.zero_(), a, b, scale=-2.0)
    return out.add_(row_norms(a).float()[:, None]).add_(row_norms(b).float()).clamp_(min=0)


def add_products(out: Tensor, a: Tensor | Rows, b: Tensor | Rows, *, scale: float = 1.0) -> Tensor:
    """Add ``scale <a_i, b_j>`` to `out` (n, m), summed in float32.

    Rows that have to be converted are a few columns at a time. Products of bfloat16 numbers are exact in float32, so
    the processor's bfloat16 kernels may compute them without loss.
    """
    a, b = as_rows(a), as_rows(b)
    width = a.shape[1]
    step = width if a.plain and b.plain and a.dtype == b.dtype == torch.float32 else COLUMNS
    with bfloat16_products() if a.dtype == b.dtype == torch.bfloat16 else float32_products():
        for start in range(0, width, step):
            part = slice(start, start + step)
            out.addmm_(a.columns(part).block().float(), b.columns(part).block().float().T, alpha=scale)
    return out


def matched_distances(a: Tensor | Rows, b: Tensor | Rows, order: Tensor) -> Tensor:
    """Return ``|a_i - b_order(i)|^2`` for every i, (n,) float64, without the cancellation in a distance matrix."""
    a, b = as_rows(a), as_rows(b)
    order, distances = order.to(b.device), torch.empty(len(a), dtype=torch.float64, device=a.device)
    parts = list(blocks(*a.shape, entries=BUFFER_ENTRIES))
    # Two buffers are reused for all rows: allocating memory would take longer than the sums.
    differences = torch.empty(parts[0].stop if parts else 0, a.shape[1], dtype=torch.float64, device=a.device)
    dtype = b.dtype if b.plain else torch.float64
    matched = torch.empty(differences.shape, dtype=dtype, device=b.device)
    for part in parts:
        count = part.stop - part.start
        difference, other = a.copy_to(differences[:count], part), matched[:count]
        if b.plain:
            torch.index_select(b.values, 0, order[part], out=other)
        else:
            b.copy_to(other, order[part])
        torch.sum(difference.sub_(other).square_(), 1, out=distances[part])
    return distances


def objective(
    stack: Tensor | Sequence[Tensor | Rows], permutations: Tensor, center: Tensor, weights: Tensor | None = None
) -> float:
    """Compute the barycenter's objective, ``sum_k w_k ||W_k[T_k] - center||_F^2``.

    Parameters
    ----------
    stack
        N design matrices, (N, p_I, D).
    permutations
        (N, p_I) int64: row i of the aligned expert k is ``stack[k][permutations[k, i]]``.
    center
        (p_I, D).
    weights
        (N,) non-negative, scaled to sum 1 (default: equal).

    Returns
    -------
    float
        Accumulated in float64.

    References
    ----------
    The paper's equation (4).

    Examples
    --------
    >>> stack = torch.tensor([[[0.0], [5.0]], [[5.0], [2.0]]])
    >>> objective(stack, torch.tensor([[0, 1], [1, 0]]), torch.tensor([[1.0], [5.0]]))
    1.0
    """
    weights = torch.ones(len(stack), dtype=torch.float64) if weights is None else weights.double()
    distances = [
        float(matched_distances(center, rows, order).sum()) for rows, order in zip(stack, permutations, strict=True)
    ]
    return float(torch.tensor(distances, dtype=torch.float64) @ (weights / weights.sum()).cpu())
