"""GGUF: llama.cpp's types, from floats to a bit and a half, as the package ``gguf`` decodes them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from ..tensors import EncodedTensor, TensorInfo
from ._base import CODECS, Codec, Found, Read
from ._bits import joined_heads

#: Rows that are decoded at once: the package takes memory for several times as many.
_ROWS = 1 << 12


@CODECS.register("gguf")
class Gguf(Codec):
    """Tensors of a GGUF file, of which converting a model for llama.cpp has changed the names and the order.

    ``settings["layout"]`` says how they become those of the unquantized checkpoint, see :data:`LAYOUTS`.
    """

    @classmethod
    def find(cls, stored: Mapping[str, TensorInfo], quantization: Mapping[str, Any], read: Read) -> Iterator[Found]:
        """Yield nothing: safetensors files hold none, and :func:`~..gguf.open_gguf` finds those of GGUF files."""
        return iter(())

    @classmethod
    def decode(cls, encoded: EncodedTensor, parts: Mapping[str, Tensor], shape: tuple[int, ...]) -> Tensor:
        """Decode the parts and put them in the order of the unquantized checkpoint."""
        settings = encoded.settings
        expert = settings.get("expert")
        matrices = []
        for role, part in parts.items():
            part = part if expert is None else part[expert]
            if "rows" in settings:
                part = part[slice(*settings["rows"])]
            matrices.append(decoded(part, encoded.parts[role][1].dtype))
        return LAYOUTS[settings["layout"]](matrices, settings).reshape(shape)


def decoded(stored: Tensor, kind: str) -> Tensor:
    """Return what bytes (..., bytes of a row) of a type decode to, in float32."""
    import numpy as np
    from gguf import GGMLQuantizationType
    from gguf.quants import dequantize

    rows = stored.reshape(-1, stored.shape[-1]).cpu().numpy()
    pieces = [
        dequantize(rows[start : start + _ROWS], GGMLQuantizationType[kind]) for start in range(0, len(rows), _ROWS)
    ]
    values = torch.from_numpy(np.concatenate(pieces)).to(stored.device)
    return values.view(*stored.shape[:-1], -1)


def _as_it_is(matrices: list[Tensor], settings: Mapping[str, Any]) -> Tensor:
    [matrix] = matrices
    return matrix


def _rotary(matrices: list[Tensor], settings: Mapping[str, Any]) -> Tensor:
    """Rows of a head that llama.cpp rotates in neighbouring pairs, as transformers rotates them: by halves."""
    [matrix] = matrices
    heads = settings["heads"]
    return matrix.view(heads, -1, 2, *matrix.shape[1:]).transpose(1, 2)


def _joined(matrices: list[Tensor], settings: Mapping[str, Any]) -> Tensor:
    """Gate and up, one after the other."""
    return torch.cat(matrices)


def _transposed(matrices: list[Tensor], settings: Mapping[str, Any]) -> Tensor:
    [matrix] = matrices
    return matrix.T


def _interleaved(matrices: list[Tensor], settings: Mapping[str, Any]) -> Tensor:
    """Gate and up, neuron by neuron."""
    both = torch.stack(matrices, dim=1).flatten(0, 1)
    return both.T if both.dim() == 2 else both  # biases are vectors


def _latent(matrices: list[Tensor], settings: Mapping[str, Any]) -> Tensor:
    """Keys and values of every head, one after the other, from a latent vector."""
    keys, values = matrices
    return joined_heads(keys, values)


#: What may have to be done to decoded parts, by its name in ``settings``.
LAYOUTS: dict[str, Callable[[list[Tensor], Mapping[str, Any]], Tensor]] = {
    "whole": _as_it_is,
    "rotary": _rotary,
    "joined": _joined,
    "transposed": _transposed,
    "interleaved": _interleaved,
    "latent": _latent,
}
