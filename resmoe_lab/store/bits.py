"""Small numbers in as few bits as they have: masks of one bit, and codes of two to eight."""

from __future__ import annotations

import math

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


def packed_width(columns: int, bits: int) -> int:
    """Return the bytes of a row of so many codes."""
    return -(-columns * bits // 8)


def pack_codes(codes: Tensor, bits: int) -> Tensor:
    """Pack (rows, columns) uint8 codes into (rows, ceil(columns bits / 8)) bytes.

    A row is one stream of bits: the first code stands in the lowest bits of the first byte.

    Parameters
    ----------
    codes
        Whole numbers below ``2 ** bits``.
    bits
        From 1 to 8.

    Examples
    --------
    >>> pack_codes(torch.tensor([[1, 2, 3]], dtype=torch.uint8), 4).tolist()
    [[33, 3]]
    """
    width, places, size = codes.shape[1], *_unit(bits)
    units = -(-width // places)
    padded = torch.nn.functional.pad(codes, (0, units * places - width)).unflatten(1, (units, places))
    packed = codes.new_zeros(len(codes), units, size)
    for place in range(places):
        byte, shift = divmod(place * bits, 8)
        packed[:, :, byte] |= padded[:, :, place] << shift
        if shift + bits > 8:
            packed[:, :, byte + 1] |= padded[:, :, place] >> (8 - shift)
    return packed.flatten(1)[:, : packed_width(width, bits)].contiguous()


def unpack_codes(packed: Tensor, bits: int, columns: int) -> Tensor:
    """Unpack what :func:`pack_codes` packed into (rows, columns) uint8 codes.

    Examples
    --------
    >>> unpack_codes(torch.tensor([[33, 3]], dtype=torch.uint8), 4, 3).tolist()
    [[1, 2, 3]]
    """
    if bits == 8:
        return packed
    places, size = _unit(bits)
    units = -(-packed.shape[1] // size)
    padded = torch.nn.functional.pad(packed, (0, units * size - packed.shape[1])).unflatten(1, (units, size))
    codes, mask = packed.new_empty(len(packed), units, places), (1 << bits) - 1
    for place in range(places):
        byte, shift = divmod(place * bits, 8)
        value = padded[:, :, byte] >> shift
        if shift + bits > 8:
            value = value | (padded[:, :, byte + 1] << (8 - shift))
        codes[:, :, place] = value & mask
    return codes.flatten(1)[:, :columns]


def _unit(bits: int) -> tuple[int, int]:
    """How many codes fill whole bytes, and how many bytes."""
    together = math.lcm(bits, 8)
    return together // bits, together // 8
