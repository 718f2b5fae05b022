"""NVFP4: four-bit floats, an eight-bit float for every 16, and one scale for the tensor."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor

from ..tensors import EncodedTensor, TensorInfo
from ._base import CODECS, Codec, Found, Read, expect_shape, gather
from ._bits import finite_scales, unpack_fp4

_GROUP = 16
_WAYS = (
    # compressed-tensors divides by the scale of the tensor, ModelOpt multiplies.
    (".weight_packed", {"scale": ".weight_scale", "divisor": ".weight_global_scale"}),
    (".weight", {"scale": ".weight_scale", "factor": ".weight_scale_2"}),
)
_OF_INPUTS = {"input": ".input_scale", "global": ".input_global_scale"}


@CODECS.register("nvfp4")
class Nvfp4(Codec):
    """As compressed-tensors (``nvfp4-pack-quantized``) and NVIDIA's ModelOpt write it."""

    @classmethod
    def find(cls, stored: Mapping[str, TensorInfo], quantization: Mapping[str, Any], read: Read) -> Iterator[Found]:
        """Yield tensors of bytes with an eight-bit float for every eight of them."""
        for suffix, roles in _WAYS:
            for stem, parts in gather(stored, suffix, roles | _OF_INPUTS, tuple(_OF_INPUTS)):
                name, info = parts["data"]
                if info.dtype == "U8" and parts["scale"][1].dtype == "F8_E4M3" and len(info.shape) == 2:
                    rows, columns = info.shape
                    expect_shape(parts["scale"], (rows, 2 * columns // _GROUP), name)
                    yield f"{stem}.weight", (rows, 2 * columns), EncodedTensor("nvfp4", parts)

    @classmethod
    def decode(cls, encoded: EncodedTensor, parts: Mapping[str, Tensor], shape: tuple[int, ...]) -> Tensor:
        """Multiply every group by both scales."""
        scales = finite_scales(parts["scale"], encoded.parts["scale"][0])
        for role in ("divisor", "factor"):
            if role in parts:
                whole = finite_scales(parts[role], encoded.parts[role][0]).reshape(())
                scales = scales / whole if role == "divisor" else scales * whole
        values = unpack_fp4(parts["data"].reshape(-1, _GROUP // 2))
        values *= scales.reshape(-1, 1)
        return values.view(shape)
