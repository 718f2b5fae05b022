"""Eight-bit floats and integers with a scale for each block, row or tensor."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from ..._core.errors import CheckpointError
from ..tensors import EncodedTensor, TensorInfo
from ._base import CODECS, Codec, Found, Read, group_weights
from ._bits import finite_scales, powers_of_two

_TYPES = ("F8_E4M3", "F8_E5M2", "I8")
_SCALES = ("_scale_inv", "_scale")
_POWERS = ("U8", "F8_E8M0")
#: What lies beside such a weight for its inputs, which are not quantized here.
_OF_INPUTS = ("input_scale", "activation_scale", "input_zero_point")
#: DeepSeek's blocks, where no config tells their size.
_BLOCK = (128, 128)


@CODECS.register("scaled")
class Scaled(Codec):
    """FP8 in blocks (DeepSeek-V3, Qwen3), in rows or whole (compressed-tensors, ModelOpt), MXFP8, and INT8.

    ``weight_scale_inv`` multiplies, whatever its name says. The last block of a side may be smaller.
    """

    @classmethod
    def find(cls, stored: Mapping[str, TensorInfo], quantization: Mapping[str, Any], read: Read) -> Iterator[Found]:
        """Yield tensors of eight bits that have a scale beside them."""
        block = _block_size(quantization)
        for name, info in stored.items():
            scale = next((name + end for end in _SCALES if name + end in stored), None)
            if info.dtype not in _TYPES or scale is None:
                continue
            powers = stored[scale].dtype in _POWERS
            if powers and info.dtype == "I8":
                continue  # two four-bit floats a byte
            sizes = _group_sizes(name, info.shape, scale, stored[scale].shape, (1, 32) if powers else block)
            parts = {"data": (name, info), "scale": (scale, stored[scale])}
            stem = name.removesuffix("weight")
            beside = [(end, stem + end) for end in _OF_INPUTS] + [("zero", f"{name}_zero_point")]
            parts |= {role: (part, stored[part]) for role, part in beside if part in stored}
            settings = {"groups": sizes, "powers": powers}
            yield name, info.shape, EncodedTensor("scaled", parts, settings, stacked=len(info.shape) == 3)

    @classmethod
    def decode(cls, encoded: EncodedTensor, parts: Mapping[str, Tensor], shape: tuple[int, ...]) -> Tensor:
        """Multiply every block by its scale."""
        where = encoded.parts["scale"][0]
        scale = parts["scale"]
        scale = powers_of_two(scale, where) if encoded.settings["powers"] else finite_scales(scale, where)
        rows, columns = encoded.settings["groups"]
        data = parts["data"]
        scale = scale.reshape(-(-shape[0] // rows), -(-shape[1] // columns))
        values = torch.empty(shape, dtype=torch.float32, device=data.device)
        zero = parts["zero"].float().reshape(scale.shape) if "zero" in parts else None
        for k, first in enumerate(range(0, shape[0], rows)):
            block = slice(first, first + rows)
            values[block] = data[block]
            if zero is not None:
                values[block] -= zero[k].repeat_interleave(columns)[: shape[1]]
            values[block] *= scale[k].repeat_interleave(columns)[: shape[1]]
        return values


def _block_size(quantization: Mapping[str, Any]) -> tuple[int, int]:
    """The sides of a block, as the config of the format's own tools or of compressed-tensors has them."""
    said = [one.get("block_structure") for one in group_weights(quantization)]
    for size in (quantization.get("weight_block_size"), *said):
        if isinstance(size, list | tuple) and len(size) == 2 and all(isinstance(n, int) and n > 0 for n in size):
            return (size[0], size[1])
    return _BLOCK


def _group_sizes(
    name: str, shape: tuple[int, ...], scale_name: str, scales: tuple[int, ...], block: tuple[int, int]
) -> tuple[int, int]:
    """Rows and columns that share a scale."""
    rows, columns = shape[-2:] if len(shape) >= 2 else (1, *shape)
    stacked = shape[:-2]
    per_matrix = scales[len(stacked) :] if stacked and scales[: len(stacked)] == stacked else scales
    if per_matrix in ((), (1,), (1, 1)):
        return rows, columns
    if per_matrix in ((rows,), (rows, 1)):
        return 1, columns
    if len(per_matrix) == 2:
        sizes = [
            _size(side, count, group) for side, count, group in zip((rows, columns), per_matrix, block, strict=True)
        ]
        if all(sizes):
            return sizes[0], sizes[1]
    raise CheckpointError(
        f"tensor {scale_name!r} has shape {scales}, expected one scale for {name!r} {shape}, for each of its rows, or "
        f"for each block of {block[0]} x {block[1]}: copy the checkpoint again"
    )


def _size(side: int, count: int, group: int) -> int:
    """How many of a side share one of so many scales: a block, or else equal parts; 0 if neither goes."""
    if -(-side // group) == count:
        return group
    return 0 if count == 0 or side % count else side // count
