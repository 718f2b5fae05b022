"""MXFP4: four-bit floats, a power of two for every 32."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor

from ..tensors import EncodedTensor, TensorInfo
from ._base import CODECS, Codec, Found, Read, expect_shape, gather
from ._bits import powers_of_two, unpack_fp4

_GROUP = 32
_BYTES = ("U8", "I8")
_POWERS = ("U8", "F8_E8M0")


@CODECS.register("mxfp4")
class Mxfp4(Codec):
    """gpt-oss' ``_blocks`` and ``_scales`` of all experts, and one matrix a tensor (compressed-tensors, DeepSeek).

    gpt-oss' matrices are stored by outputs and used by inputs: what is decoded is transposed.

    References
    ----------
    Open Compute Project, Microscaling Formats (MX) specification 1.0, section 5.
    """

    @classmethod
    def find(cls, stored: Mapping[str, TensorInfo], quantization: Mapping[str, Any], read: Read) -> Iterator[Found]:
        """Yield tensors of bytes with a byte of scale for every sixteen of them."""
        for stem, parts in gather(stored, "_blocks", {"scale": "_scales"}):
            name, info = parts["data"]
            if info.dtype != "U8" or len(info.shape) != 4 or info.shape[3] != _GROUP // 2:
                continue
            experts, outputs, groups, _ = info.shape
            expect_shape(parts["scale"], (experts, outputs, groups), name)
            yield stem, (experts, groups * _GROUP, outputs), EncodedTensor("mxfp4", parts, stacked=True)
        for suffix, scale in ((".weight_packed", ".weight_scale"), (".weight", ".weight_scale"), (".weight", ".scale")):
            for stem, parts in gather(stored, suffix, {"scale": scale}):
                (name, info), kind = parts["data"], parts["scale"][1].dtype
                if info.dtype in _BYTES and kind in _POWERS and len(info.shape) == 2:
                    rows, columns = info.shape
                    expect_shape(parts["scale"], (rows, 2 * columns // _GROUP), name)
                    yield f"{stem}.weight", (rows, 2 * columns), EncodedTensor("mxfp4", parts)

    @classmethod
    def decode(cls, encoded: EncodedTensor, parts: Mapping[str, Tensor], shape: tuple[int, ...]) -> Tensor:
        """Multiply every group by its power of two."""
        scales = powers_of_two(parts["scale"], encoded.parts["scale"][0])
        values = unpack_fp4(parts["data"].reshape(-1, _GROUP // 2))
        values *= scales.reshape(-1, 1)
        if encoded.stacked:
            return values.view(shape[::-1]).T
        return values.view(shape)
