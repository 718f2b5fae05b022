"""Reading tensors: only the named ones, each mapped from its file, so that what is not looked at is not read."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import torch

from .._core.errors import CheckpointError
from .index import Checkpoint, read_header

#: What safetensors calls the dtypes that weights come in.
TORCH_DTYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "F64": torch.float64}


def read_tensors(
    checkpoint: Checkpoint, names: Iterable[str], *, dtype: torch.dtype | None = None, device: str = "cpu"
) -> dict[str, torch.Tensor]:
    """Map the named tensors and nothing else; converting them, or moving them to a device, makes copies.

    Parameters
    ----------
    checkpoint
        Where they are.
    names
        Tensor names as stored.
    dtype
        Converted to this while loading (None: as stored).
    device
        Where they go.

    Raises
    ------
    CheckpointError
        If a tensor is missing, or its file cannot be read or fetched.
    """
    by_file: dict[Path, list[str]] = {}
    for name in names:
        by_file.setdefault(checkpoint.file_of(name), []).append(name)
    tensors = {}
    for file, wanted in by_file.items():
        for name, tensor in _map(file, wanted, device).items():
            tensors[name] = tensor if dtype is None else tensor.to(dtype)
    return tensors


def read_file(file: Path) -> dict[str, torch.Tensor]:
    """Map every tensor of one safetensors file.

    Raises
    ------
    CheckpointError
        If it is damaged or cannot be read.
    """
    return _map(file, list(read_header(file)), "cpu")


def _map(file: Path, names: Iterable[str], device: str) -> dict[str, torch.Tensor]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(file), framework="pt", device=device) as stream:
            return {name: stream.get_tensor(name) for name in names}
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{file} cannot be read ({error}): copy it again") from error
