"""Four-bit matrices that multiply as they are stored: torch's own product on CPUs, for few tokens in bfloat16."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from .encodings.affine import unpack_into
from .groups import num_groups

#: From more tokens on, unpacking first is faster: the product takes time for every token, unpacking none.
FEW_TOKENS = 8
#: Weights that are unpacked at a time; the room for them is kept, since fresh memory costs more than filling it.
_UNPACKED = 1 << 23
_ROOM = threading.local()
#: What the product expects: groups of these sizes, and a multiple of so many outputs.
_GROUPS, _OUTPUTS = (32, 64, 128, 256), 16
#: The code that stands for its group's offset.
_MIDDLE = 8


class Int4Matrix(NamedTuple):
    """An (outputs, inputs) matrix in the order that this machine's product reads.

    Parameters
    ----------
    codes
        (outputs, inputs / 2) uint8, in an order of the processor's own: it is made where it runs, and never stored.
    offsets
        (G, outputs, 2) bfloat16: the scale of a group, and the value of code 8.
    group
        Inputs that share both.
    """

    codes: Tensor
    offsets: Tensor
    group: int


def can_multiply(inputs: Tensor, outputs: int, *, group: int) -> bool:
    """Whether the product takes (n, inputs) activations and a matrix of so many outputs in such groups."""
    few = len(inputs) <= FEW_TOKENS and inputs.dtype == torch.bfloat16 and inputs.device.type == "cpu"
    fits = group in _GROUPS and inputs.shape[1] % group == 0 and outputs % _OUTPUTS == 0
    return few and fits and not (torch.is_grad_enabled() and inputs.requires_grad)


def int4_matrix(codes: Tensor, scale: Tensor, zero: Tensor, *, group: int) -> Int4Matrix:
    """Put a matrix into the order that the product reads.

    Parameters
    ----------
    codes
        (outputs, inputs) uint8 below 16.
    scale, zero
        (outputs, G) floats: a value is ``(code - zero) * scale``.
    group
        Inputs that share both.

    Notes
    -----
    torch takes a value as ``(code - 8) * scale + offset``; the offset is rounded to bfloat16, so that products differ
    from those of the unpacked matrix by no more than bfloat16's own rounding of the values.
    """
    assert scale.shape[1] == num_groups(codes.shape[1], group)
    scale, zero = scale.float(), zero.float()
    offsets = torch.stack([scale.T, ((_MIDDLE - zero) * scale).T], dim=-1).bfloat16().contiguous()
    return Int4Matrix(torch.ops.aten._convert_weight_to_int4pack_for_cpu(codes.int(), 2), offsets, group)


def multiply(inputs: Tensor, matrix: Int4Matrix) -> Tensor:
    """Return the (n, outputs) products of (n, inputs) bfloat16 activations."""
    product: Tensor = torch.ops.aten._weight_int4pack_mm_for_cpu(
        inputs.contiguous(), matrix.codes, matrix.group, matrix.offsets
    )
    return product


def multiply_unpacked(inputs: Tensor, parts: Mapping[str, Tensor], *, group: int) -> Tensor:
    """Return the (n, outputs) products of (n, inputs) bfloat16 activations with some rows unpacked at a time.

    Parameters
    ----------
    inputs
        On the CPU, without gradients.
    parts
        ``data``, ``scale`` and ``zero`` of a matrix as :class:`~.encodings.affine.AffineEncoder` packs them.
    group
        Inputs that share a scale.
    """
    columns, outputs = inputs.shape[1], len(parts["data"])
    step = min(outputs, max(1, _UNPACKED // columns))
    room: Tensor | None = getattr(_ROOM, "values", None)
    if room is None or room.numel() < step * columns:
        with torch.inference_mode(False):
            room = _ROOM.values = torch.empty(step * columns, dtype=torch.bfloat16)
    products = inputs.new_empty(outputs, len(inputs))
    for start in range(0, outputs, step):
        rows = {name: part[start : start + step] for name, part in parts.items()}
        values = room[: len(rows["data"]) * columns].view(-1, columns)
        unpack_into(values, rows, group=group)
        torch.mm(values, inputs.T, out=products[start : start + step])
    return products.T
