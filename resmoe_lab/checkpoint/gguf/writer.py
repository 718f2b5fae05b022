"""Writing a GGUF file, tensor by tensor."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ..._core.errors import OutputError, UsageError
from ..._core.files import atomic_write
from .header import gguf_package

#: What GGUF calls the types that matrices are written in.
WRITTEN_TYPES = ("F16", "Q8_0", "Q4_0", "MXFP4")
_FILE_TYPES = {"F16": "MOSTLY_F16", "Q8_0": "MOSTLY_Q8_0", "Q4_0": "MOSTLY_Q4_0", "MXFP4": "MOSTLY_MXFP4_MOE"}


@dataclass(frozen=True)
class GgufPiece:
    """A tensor that is to be written.

    Parameters
    ----------
    name
        GGUF's.
    kind
        GGUF's name of its type.
    shape
        As PyTorch has it.
    read
        Returns its bytes (..., bytes of a row) when it is its turn.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    read: Callable[[], torch.Tensor]


def row_bytes(kind: str, columns: int) -> int:
    """Return how many bytes a row of a tensor takes.

    Raises
    ------
    UsageError
        If the type stores weights in blocks that do not fit into a row.
    """
    gguf = gguf_package("the output")
    block, size = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[kind]]
    if columns % block:
        raise UsageError(
            f"GGUF type {kind} stores {block} weights of a row together, found rows of {columns}: write F16"
        )
    return int(columns // block * size)


def encoded(matrix: torch.Tensor, kind: str) -> torch.Tensor:
    """Return the bytes (..., bytes of a row) of a tensor in a type, as the package ``gguf`` rounds it.

    Raises
    ------
    OutputError
        If a value is larger than the type can store.
    """
    import numpy as np

    gguf = gguf_package("the output")
    values = matrix.detach().float().cpu().contiguous().numpy()
    with np.errstate(over="ignore"):
        stored = gguf.quants.quantize(values, gguf.GGMLQuantizationType[kind])
    if kind == "F16" and not np.isfinite(stored).all():
        raise OutputError(
            f"a weight is as large as {abs(values).max():.3g}, which F16 cannot store: export dense instead"
        )
    return torch.from_numpy(np.ascontiguousarray(stored).view(np.uint8))


def write_gguf(
    path: Path, architecture: str, pieces: Sequence[GgufPiece], *, metadata: Mapping[str, Any], kind: str
) -> Path:
    """Write a GGUF file, one tensor in memory at a time; return its path.

    Parameters
    ----------
    path
        The file.
    architecture
        GGUF's name of the model's architecture.
    pieces
        Its tensors.
    metadata
        Further metadata: numbers, text, or lists of them.
    kind
        The type of most matrices.

    Raises
    ------
    OutputError
        If it cannot be written there.
    """
    import numpy as np

    gguf = gguf_package(str(path))
    with atomic_write(path) as part:
        try:
            writer = gguf.GGUFWriter(str(part), architecture)
            writer.add_type("model")
            writer.add_file_type(gguf.LlamaFileType[_FILE_TYPES[kind]])
            writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
            for key, value in metadata.items():
                _add(writer, key, value)
            for piece in pieces:
                stored = (*piece.shape[:-1], row_bytes(piece.kind, piece.shape[-1]))
                size, how = int(np.prod(stored)), gguf.GGMLQuantizationType[piece.kind]
                writer.add_tensor_info(piece.name, stored, np.dtype(np.uint8), size, raw_dtype=how)
            writer.write_header_to_file()
            writer.write_kv_data_to_file()
            writer.write_ti_data_to_file()
            for piece in pieces:
                writer.write_tensor_data(piece.read().contiguous().numpy())
            writer.close()
        except OSError as error:
            raise OutputError(f"{path} could not be written ({error}): make room or name another place") from error
    return path


def _add(writer: Any, key: str, value: Any) -> None:
    if isinstance(value, bool):
        writer.add_bool(key, value)
    elif isinstance(value, int):
        writer.add_uint32(key, value)
    elif isinstance(value, float):
        writer.add_float32(key, value)
    elif isinstance(value, str):
        writer.add_string(key, value)
    else:
        writer.add_array(key, value)
