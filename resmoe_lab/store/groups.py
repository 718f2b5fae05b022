"""Codes in groups that share a scale and a zero: a value is ``(code - zero) * scale``."""

from __future__ import annotations

import torch
from torch import Tensor

#: What is divided by where a group holds nothing but zeros.
_NO_RANGE = 1.0


def num_groups(columns: int, group: int) -> int:
    """Return how many groups a row of so many values has, the last one perhaps shorter."""
    return -(-columns // group)


def split_groups(matrix: Tensor, group: int) -> Tensor:
    """Return the (rows, G, group) groups of a (rows, columns) matrix; a short last one repeats its last value."""
    missing = -matrix.shape[1] % group
    if missing:
        matrix = torch.cat([matrix, matrix[:, -1:].expand(-1, missing)], dim=1)
    return matrix.unflatten(1, (-1, group))


def join_groups(groups: Tensor, columns: int) -> Tensor:
    """Return the (rows, columns) matrix that :func:`split_groups` has split."""
    return groups.flatten(1)[:, :columns]


def affine_range(groups: Tensor, bits: int) -> tuple[Tensor, Tensor]:
    """Return the scale and the zero at which the codes of a group reach from its minimum to its maximum.

    Zero itself is always within reach, so that a group far from it cannot make the zero larger than any code.

    Parameters
    ----------
    groups
        (..., group) finite floats.
    bits
        Of a code.

    Returns
    -------
    scale, zero : (...) floats
        Both rounded to bfloat16, so that any float type stores them as they are.
    """
    low, high = groups.amin(-1).clamp(max=0), groups.amax(-1).clamp(min=0)
    span = high - low
    scale = stored_float(torch.where(span > 0, span / (2**bits - 1), _NO_RANGE))
    return scale, stored_float(-low / scale)


def to_codes(groups: Tensor, scale: Tensor, zero: Tensor, *, bits: int) -> Tensor:
    """Return the nearest uint8 codes of (..., group) values, with the (...) scale and zero of each group."""
    codes = (groups / scale[..., None] + zero[..., None]).round_()
    return codes.clamp_(0, 2**bits - 1).to(torch.uint8)


def from_codes(codes: Tensor, scale: Tensor, zero: Tensor, *, group: int) -> Tensor:
    """Return the (rows, columns) values of uint8 codes, in the type of their (rows, G) scale and zero."""
    values = split_groups(codes, group).to(scale.dtype)
    return join_groups(values.sub_(zero[..., None]).mul_(scale[..., None]), codes.shape[1])


def spread_groups(values: Tensor, old: int, new: int, columns: slice) -> Tensor:
    """Return the (rows, G) scales or zeros of some columns in smaller groups, of which several have the same.

    Parameters
    ----------
    values
        (rows, G) of groups of `old` columns.
    old, new
        The second divides the first, and the first of the columns.
    columns
        Which are kept.
    """
    first, count = columns.start // new, num_groups(columns.stop - columns.start, new)
    return values.repeat_interleave(old // new, dim=1)[:, first : first + count].contiguous()


def stored_float(values: Tensor) -> Tensor:
    """Round to bfloat16, the narrowest float that scales are stored in; nothing above zero becomes zero."""
    tiny = torch.finfo(torch.bfloat16).tiny
    rounded = values.to(torch.bfloat16).to(values.dtype)
    return torch.where((values > 0) & (rounded == 0), tiny, rounded)
