"""Squared distances between neurons, and the objective of a center."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from .._core.errors import WeightError
from .._core.precision import bfloat16_products, float32_products

#: Entries of a temporary while a large matrix is processed block by block: it fits a core's cache, and stays below
#: torch's threshold for multithreading, whose synchronisation would take longer than the work.
BLOCK_ENTRIES = (1 << 15) - 1
#: Entries of a buffer that is reused for block after block.
BUFFER_ENTRIES = 1 << 18
#: Columns that are converted to float32 at a time.
COLUMNS = 1024


def blocks(rows: int, width: int, *, entries: int = BLOCK_ENTRIES) -> Iterator[slice]:
    """Split `rows` rows of `width` entries into slices of at most `entries` entries, but at least one row."""
    step = max(1, entries // max(width, 1))
    return (slice(start, min(start + step, rows)) for start in range(0, rows, step))


def row_norms(rows: Tensor) -> Tensor:
    """Return the squared norm of every row, summed in float64: (n, D) -> (n,)."""
    parts = [torch.linalg.vector_norm(rows[part], dim=1, dtype=torch.float64) for part in blocks(*rows.shape)]
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
        (n, m) float32, never negative: ``|a|^2 + |b|^2 - 2 <a, b>`` with the norms summed in float64.

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
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1]:
        raise WeightError(
            f"rows of shapes {tuple(a.shape)} and {tuple(b.shape)} cannot be compared, expected (n, D) and (m, D): "
            "give both experts the same blocks of columns"
        )
    out = torch.empty(len(a), len(b), device=a.device) if out is None else out
    add_products(out.zero_(), a, b, scale=-2.0)
    return out.add_(row_norms(a).float()[:, None]).add_(row_norms(b).float()).clamp_(min=0)


def add_products(out: Tensor, a: Tensor, b: Tensor, *, scale: float = 1.0) -> Tensor:
    """Add ``scale <a_i, b_j>`` to `out` (n, m), summed in float32.

    16-bit rows are converted to float32 a few columns at a time. Products of bfloat16 numbers are exact in float32, so
    the processor's bfloat16 kernels may compute them without loss.
    """
    width = a.shape[1]
    step = width if a.dtype == b.dtype == torch.float32 else COLUMNS
    with bfloat16_products() if a.dtype == b.dtype == torch.bfloat16 else float32_products():
        for start in range(0, width, step):
            part = slice(start, start + step)
            out.addmm_(a[:, part].float(), b[:, part].float().T, alpha=scale)
    return out


def matched_distances(a: Tensor, b: Tensor, order: Tensor) -> Tensor:
    """Return ``|a_i - b_order(i)|^2`` for every i, (n,) float64, without the cancellation in a distance matrix."""
    order, distances = order.to(b.device), torch.empty(len(a), dtype=torch.float64, device=a.device)
    parts = list(blocks(len(a), a.shape[1], entries=BUFFER_ENTRIES))
    # Two buffers are reused for all rows: allocating memory would take longer than the sums.
    differences = torch.empty(parts[0].stop if parts else 0, a.shape[1], dtype=torch.float64, device=a.device)
    matched = torch.empty(differences.shape, dtype=b.dtype, device=b.device)
    for part in parts:
        count = part.stop - part.start
        difference, other = differences[:count].copy_(a[part]), matched[:count]
        torch.index_select(b, 0, order[part], out=other)
        torch.sum(difference.sub_(other).square_(), 1, out=distances[part])
    return distances


def objective(
    stack: Tensor | Sequence[Tensor], permutations: Tensor, center: Tensor, weights: Tensor | None = None
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
