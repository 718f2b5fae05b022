"""Squared distances between neurons, and the objective that the center is judged by."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from .._core.errors import WeightError
from .._core.precision import bfloat16_products, float32_products

#: Entries that a temporary may hold while a big matrix is walked through block by block. It stays in a core's cache,
#: and below torch's threshold for threads, whose waiting for one another would take longer than the work.
BLOCK_ENTRIES = (1 << 15) - 1
#: Entries of a buffer that is used again for block after block.
BUFFER_ENTRIES = 1 << 18
#: Columns that are widened to float32 at a time.
COLUMNS = 1024


def blocks(rows: int, width: int, *, entries: int = BLOCK_ENTRIES) -> Iterator[slice]:
    """Cut `rows` rows of `width` entries into slices of at most `entries`, and at least a row."""
    step = max(1, entries // max(width, 1))
    return (slice(start, min(start + step, rows)) for start in range(0, rows, step))


def row_norms(rows: Tensor) -> Tensor:
    """Return the squared norm of every row, summed in float64: (n, D) -> (n,)."""
    parts = [torch.linalg.vector_norm(rows[part], dim=1, dtype=torch.float64) for part in blocks(*rows.shape)]
    return torch.cat(parts).square()


def nearest(rows: Tensor) -> Tensor:
    """Return the column of each row's least entry; numpy is several times faster at it than torch on the CPU."""
    return torch.from_numpy(rows.numpy().argmin(1)) if rows.device.type == "cpu" else rows.argmin(1)


def rounding(width: int) -> float:
    """How far a computed inner product <a, b> of `width` terms can be off, as a share of |a| |b|.

    Rounding errors of float32 sums grow with the root of the number of terms; this is several standard deviations.
    """
    return 2.0**-23 * width**0.5


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
        (n, m) float32, never negative: ``|a|^2 + |b|^2 - 2 <a, b>`` with the norms summed in float64.

    Raises
    ------
    WeightError
        If the widths differ.

    References
    ----------
    The cost matrix C below equation (2) of the paper's appendix C.
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

    Rows stored in 16 bits are widened a few columns at a time. Products of bfloat16 numbers are exact in float32, so
    for them the processor's bfloat16 kernels, where it has them, lose nothing.
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
    order, found = order.to(b.device), torch.empty(len(a), dtype=torch.float64, device=a.device)
    parts = list(blocks(len(a), a.shape[1], entries=BUFFER_ENTRIES))
    # The same two buffers for all rows: new memory would cost more time than the sums.
    wide = torch.empty(parts[0].stop if parts else 0, a.shape[1], dtype=torch.float64, device=a.device)
    matched = torch.empty(wide.shape, dtype=b.dtype, device=b.device)
    for part in parts:
        own, other = wide[: part.stop - part.start].copy_(a[part]), matched[: part.stop - part.start]
        torch.index_select(b, 0, order[part], out=other)
        torch.sum(own.sub_(other).square_(), 1, out=found[part])
    return found


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
    shares = torch.full((len(stack),), 1.0, dtype=torch.float64) if weights is None else weights.double()
    distances = [
        float(matched_distances(center, rows, order).sum()) for rows, order in zip(stack, permutations, strict=True)
    ]
    return float(torch.tensor(distances, dtype=torch.float64) @ (shares / shares.sum()).cpu())
