"""Encodings that published checkpoints are quantized in, one file each: decoded to floats when they are read."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from torch import Tensor

from ..tensors import TensorInfo
from ._base import CODECS as CODECS
from ._base import Codec as Codec
from ._base import Read as Read
from ._base import fitting as fitting
from .mlx import whole_tensors as whole_tensors


def decoded_tensors(
    stored: Mapping[str, TensorInfo],
    quantization: Mapping[str, Any],
    *,
    dtype: str,
    read: Callable[[Iterable[str]], Mapping[str, Tensor]],
) -> dict[str, TensorInfo]:
    """Return the tensors that stored ones are decoded to, by the names that they have in an unquantized checkpoint.

    Parameters
    ----------
    stored
        All tensors of the files.
    quantization
        What the checkpoint says of its quantization; empty if nothing.
    dtype
        Safetensors' name of the type that the unquantized checkpoint would have.
    read
        Reads small stored tensors, where the shape of the decoded one is in them.

    Raises
    ------
    CheckpointError
        If the parts of a tensor do not fit together.
    """
    tensors, used = dict[str, TensorInfo](), set[str]()
    for codec in CODECS.names():
        with fitting(f"what the files hold of encoding {codec!r}"):
            found = list(CODECS[codec].find(stored, quantization, read))
        for name, shape, encoded in found:
            parts = dict(encoded.parts.values())
            if used.isdisjoint(parts):
                nbytes = sum(info.nbytes for info in parts.values())
                first = next(iter(parts.values()))
                tensors[name] = TensorInfo(first.file, dtype, shape, nbytes, encoded)
                used.update(parts)
    return {name: info for name, info in stored.items() if name not in used} | tensors
