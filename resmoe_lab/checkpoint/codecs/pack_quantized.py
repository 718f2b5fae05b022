"""compressed-tensors' ``pack-quantized``: integers of 1 to 8 bits in 32-bit words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from ..._core.errors import CheckpointError
from ..tensors import EncodedTensor, TensorInfo
from ._base import CODECS, Codec, Found, Read, gather, group_weights
from ._bits import finite_scales, spread, unpack_codes

#: Bits and group sizes that are tried where no config tells them.
_USUAL = [(bits, group) for bits in (4, 8, 2, 3) for group in (128, 32, 64, None)]


@CODECS.register("pack-quantized")
class PackQuantized(Codec):
    """llm-compressor's int4 and int8, by groups or rows, with or without zero points and activation order."""

    @classmethod
    def find(cls, stored: Mapping[str, TensorInfo], quantization: Mapping[str, Any], read: Read) -> Iterator[Found]:
        """Yield tensors of 32-bit words with their scales."""
        ways = _ways(quantization)
        roles = {"scale": ".weight_scale", "shape": ".weight_shape", "zero": ".weight_zero_point"}
        roles |= {"order": ".weight_g_idx"}
        for stem, parts in gather(stored, ".weight_packed", roles, ("shape", "zero", "order")):
            (name, info), scales = parts["data"], parts["scale"][1].shape
            if info.dtype != "I32" or len(info.shape) != 2:
                continue
            bits, columns = _fitting(name, info.shape[1], scales, ways)
            yield f"{stem}.weight", (info.shape[0], columns), EncodedTensor("pack-quantized", parts, {"bits": bits})

    @classmethod
    def decode(cls, encoded: EncodedTensor, parts: Mapping[str, Tensor], shape: tuple[int, ...]) -> Tensor:
        """Take the zero point from every code, and multiply by its scale."""
        bits, (rows, columns) = encoded.settings["bits"], shape
        name = encoded.parts["data"][0]
        if "shape" in parts and (said := tuple(parts["shape"].tolist())) != shape:
            raise CheckpointError(f"tensor {name!r} says it is {said}, expected {shape}: copy the checkpoint again")
        scales = finite_scales(parts["scale"], encoded.parts["scale"][0]).reshape(len(parts["scale"]), -1)
        codes = unpack_codes(parts["data"], bits, columns).float()
        group = -(-columns // scales.shape[1])
        places = parts["order"].long() if "order" in parts and bool((parts["order"] >= 0).all()) else None

        def by_column(of_groups: Tensor) -> Tensor:
            if places is None:
                return spread(of_groups, columns, group).expand(rows, columns)
            return of_groups.expand(rows, -1)[:, places]

        if "zero" in parts:
            zero = parts["zero"]
            if zero.dtype == torch.int32:  # packed along the outputs
                zero = unpack_codes(zero.T, bits, rows).T
                codes -= by_column(zero.float().reshape(scales.shape))
            else:
                codes -= by_column(zero.float().reshape(scales.shape)) + 2 ** (bits - 1)
        else:
            codes -= 2 ** (bits - 1)
        return codes.mul_(by_column(scales))


def _ways(quantization: Mapping[str, Any]) -> list[tuple[int, int | None]]:
    """Bits and group sizes that the config names."""
    named = list[tuple[int, int | None]]()
    for weights in group_weights(quantization):
        bits, group = weights.get("num_bits"), weights.get("group_size")
        if isinstance(bits, int) and 1 <= bits <= 32:
            named.append((bits, group if isinstance(group, int) and group > 0 else None))
    return named or _USUAL


def _fitting(name: str, words: int, scales: tuple[int, ...], ways: list[tuple[int, int | None]]) -> tuple[int, int]:
    """Bits, and how many columns so many words hold, by the first way that goes with the scales."""
    count = scales[1] if len(scales) == 2 else 1
    for bits, group in ways:
        columns = count * group if group is not None else (words * 32 // bits if count == 1 else None)
        if columns is not None and -(-columns * bits // 32) == words:
            return bits, columns
    known = ", ".join(f"{bits} bits in groups of {group or 'a row'}" for bits, group in ways[:4])
    raise CheckpointError(
        f"tensor {name!r} has {words} words a row and {count} scales, expected what its config says ({known}): use the "
        "unquantized checkpoint"
    )
