"""Which entries of a matrix are kept: one bit for each, eight to a byte."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def pack_mask(mask: Tensor) -> Tensor:
    """Pack a (rows, columns) bool mask into (rows, ceil(columns / 8)) bytes, the first column in the lowest bit."""
    packed = np.packbits(mask.cpu().numpy(), axis=1, bitorder="little")
    return torch.from_numpy(packed).to(mask.device)


def unpack_mask(bits: Tensor, columns: int) -> Tensor:
    """Unpack what :func:`pack_mask` packed into a (rows, columns) bool mask."""
    if bits.device.type == "cpu":
        return torch.from_numpy(np.unpackbits(bits.numpy(), axis=1, count=columns, bitorder="little").view(np.bool_))
    places = torch.arange(8, dtype=torch.uint8, device=bits.device)
    spread = (bits.unsqueeze(-1) >> places) & 1
    return spread.flatten(1)[:, :columns].bool()
