"""GPTQ's layout: codes packed along the inputs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from ..._core.errors import CheckpointError
from ..tensors import EncodedTensor, TensorInfo
from ._base import CODECS, Codec, Found, Read, expect_shape, gather
from ._bits import finite_scales, unpack_codes


@CODECS.register("gptq")
class Gptq(Codec):
    """AutoGPTQ's and GPTQModel's ``qweight``, ``qzeros``, ``scales`` and ``g_idx``, of 2, 3, 4 or 8 bits.

    Zero points are stored less one, except where the config says ``checkpoint_format: gptq_v2``.
    """

    @classmethod
    def find(cls, stored: Mapping[str, TensorInfo], quantization: Mapping[str, Any], read: Read) -> Iterator[Found]:
        """Yield tensors of words that have as many columns as scales."""
        roles = {"zero": ".qzeros", "scale": ".scales", "order": ".g_idx", "bias": ".bias"}
        less_one = quantization.get("checkpoint_format") != "gptq_v2"
        for stem, parts in gather(stored, ".qweight", roles, ("order", "bias")):
            name, info = parts["data"]
            scale = parts["scale"][1].shape
            parts.pop("bias", None)
            if info.dtype != "I32" or len(info.shape) != 2 or len(scale) != 2 or info.shape[1] != scale[1]:
                continue
            inputs = parts["order"][1].shape[0] if "order" in parts else _inputs(info.shape[0], quantization)
            bits, rest = divmod(32 * info.shape[0], inputs or 1)
            if rest or not 1 <= bits <= 8 or inputs % scale[0]:
                raise CheckpointError(
                    f"tensor {name!r} has {info.shape[0]} rows of words for {inputs} inputs in {scale[0]} groups, "
                    "expected 2, 3, 4 or 8 bits an input: copy the checkpoint again"
                )
            expect_shape(parts["zero"], (scale[0], -(-scale[1] * bits // 32)), name)
            settings = {"bits": bits, "less_one": less_one}
            yield f"{stem}.weight", (scale[1], inputs), EncodedTensor("gptq", parts, settings)

    @classmethod
    def decode(cls, encoded: EncodedTensor, parts: Mapping[str, Tensor], shape: tuple[int, ...]) -> Tensor:
        """Take each input's zero point, and multiply by its scale."""
        bits, (outputs, inputs) = encoded.settings["bits"], shape
        scales = finite_scales(parts["scale"], encoded.parts["scale"][0])
        zeros = unpack_codes(parts["zero"], bits, outputs)
        if encoded.settings["less_one"]:
            zeros = (zeros + 1) & (2**bits - 1)
        if "order" in parts:
            group = parts["order"].long()
            if not bool(((group >= 0) & (group < len(scales))).all()):
                raise CheckpointError(
                    f"tensor {encoded.parts['order'][0]!r} names a group that is not there, expected less than "
                    f"{len(scales)}: copy the checkpoint again"
                )
        else:
            group = torch.arange(inputs, device=scales.device) // (inputs // len(scales))
        codes = unpack_codes(parts["data"].T.contiguous(), bits, inputs).float()
        return codes.sub_(zeros.float()[group].T).mul_(scales[group].T)


def _inputs(words: int, quantization: Mapping[str, Any]) -> int:
    bits = quantization.get("bits")
    return words * 32 // bits if isinstance(bits, int) and bits > 0 else 8 * words
