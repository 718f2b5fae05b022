"""AWQ's layouts: four-bit codes packed along the outputs, or along the inputs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from ..tensors import EncodedTensor, TensorInfo
from ._base import CODECS, Codec, Found, Read, expect_shape, gather
from ._bits import finite_scales, spread, unpack_codes

_BITS, _CODES = 4, 8
#: Place in a word of each of eight neighbouring outputs.
_ORDER = torch.tensor([0, 4, 1, 5, 2, 6, 3, 7])


@CODECS.register("awq")
class Awq(Codec):
    """AutoAWQ's ``gemm`` version, whose words hold eight outputs in the order that its kernel unpacks them."""

    @classmethod
    def find(cls, stored: Mapping[str, TensorInfo], quantization: Mapping[str, Any], read: Read) -> Iterator[Found]:
        """Yield tensors of words that have an eighth as many columns as scales."""
        for stem, parts in gather(stored, ".qweight", {"zero": ".qzeros", "scale": ".scales"}):
            (name, info), scale = parts["data"], parts["scale"][1].shape
            if info.dtype != "I32" or len(info.shape) != 2 or len(scale) != 2 or info.shape[1] * _CODES != scale[1]:
                continue
            expect_shape(parts["zero"], (scale[0], info.shape[1]), name)
            yield f"{stem}.weight", (scale[1], info.shape[0]), EncodedTensor("awq", parts)

    @classmethod
    def decode(cls, encoded: EncodedTensor, parts: Mapping[str, Tensor], shape: tuple[int, ...]) -> Tensor:
        """Put the codes in order, take the zero points, and multiply by the scales."""
        outputs, inputs = shape
        scales = finite_scales(parts["scale"], encoded.parts["scale"][0])
        group = -(-inputs // len(scales))
        codes, zeros = _in_order(parts["data"], outputs), _in_order(parts["zero"], outputs)
        values = codes.T.float()
        return values.sub_(spread(zeros.T.float(), inputs, group)).mul_(spread(scales.T, inputs, group))


def _in_order(words: Tensor, outputs: int) -> Tensor:
    """(rows, outputs) codes of (rows, outputs / 8) words."""
    codes = unpack_codes(words, _BITS, outputs).view(len(words), -1, _CODES)
    return codes[..., _ORDER.to(words.device)].flatten(1)
