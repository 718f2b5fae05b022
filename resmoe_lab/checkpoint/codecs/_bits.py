"""Small integers and floats, unpacked."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ..._core.errors import CheckpointError

#: E2M1, the four-bit float of the Open Compute Project's microscaling formats: the sign is the highest bit.
_E2M1 = torch.tensor([0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0])
_E2M1 = torch.cat([_E2M1, -_E2M1])
#: Byte -> its two numbers, the low half first.
_PAIRS = torch.stack([_E2M1.repeat(16), _E2M1.repeat_interleave(16)], dim=1)


def unpack_codes(words: Tensor, bits: int, count: int) -> Tensor:
    """Return the (..., count) int32 codes of so many bits that rows of 32-bit words hold, the lowest bits first."""
    if 32 % bits == 0:
        shifts = torch.arange(0, 32, bits, dtype=torch.int32, device=words.device)
        codes = (words.view(torch.int32).unsqueeze(-1) >> shifts) & (2**bits - 1)
        return codes.flatten(-2)[..., :count]
    array = np.ascontiguousarray(words.cpu().view(torch.int32).numpy()).view(np.uint8)
    single = np.unpackbits(array, axis=-1, bitorder="little")[..., : count * bits]
    powers = (1 << np.arange(bits)).astype(np.int32)
    return torch.from_numpy(single.reshape(*array.shape[:-1], count, bits) @ powers).to(words.device)


def unpack_fp4(data: Tensor) -> Tensor:
    """Return the (..., 2 n) float32 numbers of (..., n) bytes."""
    pairs = _PAIRS.to(data.device)
    return pairs.index_select(0, data.view(torch.uint8).flatten().int()).view(*data.shape[:-1], -1)


def powers_of_two(exponents: Tensor, where: str) -> Tensor:
    """Return the float32 scales that E8M0 bytes stand for.

    Raises
    ------
    CheckpointError
        If one of them is the format's NaN.
    """
    exponents = exponents.view(torch.uint8)
    if bool((exponents == 255).any()):
        raise CheckpointError(f"tensor {where!r} holds a scale that is no number (255): copy the checkpoint again")
    # Built from its bits, 2^-127 is a subnormal number that some devices flush to zero when they compute it.
    power = exponents.int()
    return torch.where(power > 0, power << 23, torch.full_like(power, 1 << 22)).view(torch.float32)


def finite_scales(scales: Tensor, where: str) -> Tensor:
    """Return scales as float32.

    Raises
    ------
    CheckpointError
        If one is not finite.
    """
    scales = scales.float()
    if not bool(torch.isfinite(scales).all()):
        raise CheckpointError(f"tensor {where!r} holds a scale that is not finite: copy the checkpoint again")
    return scales


def spread(scales: Tensor, size: int, group: int) -> Tensor:
    """Repeat each column of scales for the columns of its group, `size` in all."""
    return scales.repeat_interleave(group, dim=-1)[..., :size]


def joined_heads(keys: Tensor, values: Tensor) -> Tensor:
    """Return keys (heads, rank, width) and values (heads, width, rank) as the one matrix that they were."""
    return torch.cat([keys.mT, values], dim=1).flatten(0, 1)
