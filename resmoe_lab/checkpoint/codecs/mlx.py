"""MLX: integers in words with a scale and an offset for every group."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor

from ..._core.errors import CheckpointError
from ..tensors import EncodedTensor, TensorInfo
from ._base import CODECS, Codec, Found, Read, expect_shape, gather
from ._bits import finite_scales, spread, unpack_codes


@CODECS.register("mlx")
class Mlx(Codec):
    """``mlx_lm.convert -q``: a weight is its code times the group's scale, plus the group's offset (``biases``)."""

    @classmethod
    def find(cls, stored: Mapping[str, TensorInfo], quantization: Mapping[str, Any], read: Read) -> Iterator[Found]:
        """Yield tensors of unsigned words with scales and offsets."""
        bits, group = quantization.get("bits"), quantization.get("group_size")
        for stem, parts in gather(stored, ".weight", {"scale": ".scales", "offset": ".biases"}):
            name, info = parts["data"]
            scales = parts["scale"][1].shape
            if info.dtype != "U32" or len(info.shape) not in (2, 3):
                continue
            expect_shape(parts["offset"], scales, name)
            size = group if isinstance(group, int) and group > 0 else 64
            columns = scales[-1] * size
            width, rest = divmod(32 * info.shape[-1], columns)
            if rest or scales[:-1] != info.shape[:-1] or width not in (2, 3, 4, 5, 6, 8):
                raise CheckpointError(
                    f"tensor {name!r} has shape {info.shape} with scales {scales}, expected {bits or 'some'} bits in "
                    f"groups of {size}: copy the checkpoint again"
                )
            shape = (*info.shape[:-1], columns)
            settings = {"bits": width, "group": size}
            yield f"{stem}.weight", shape, EncodedTensor("mlx", parts, settings, stacked=len(shape) == 3)

    @classmethod
    def decode(cls, encoded: EncodedTensor, parts: Mapping[str, Tensor], shape: tuple[int, ...]) -> Tensor:
        """Multiply by the scale and add the offset."""
        group = encoded.settings["group"]
        codes = unpack_codes(parts["data"], encoded.settings["bits"], shape[-1]).float()
        scales = finite_scales(parts["scale"], encoded.parts["scale"][0])
        offsets = finite_scales(parts["offset"], encoded.parts["offset"][0])
        return codes.mul_(spread(scales, shape[-1], group)).add_(spread(offsets, shape[-1], group))
