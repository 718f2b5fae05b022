"""Memory-mapped reading of tensors, by name."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import torch

from .._core.errors import CheckpointError
from .index import Checkpoint, read_header

#: The dtypes of unquantized weights, by their names in safetensors.
TORCH_DTYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "F64": torch.float64}


def read_tensors(
    checkpoint: Checkpoint, names: Iterable[str], *, dtype: torch.dtype | None = None, device: str = "cpu"
) -> dict[str, torch.Tensor]:
    """Map tensors into memory; copies are made only for another dtype or device.

    Parameters
    ----------
    checkpoint
        The checkpoint.
    names
        Tensor names on disk.
    dtype
        Dtype to convert to (None: as stored).
    device
        Device of the tensors.

    Returns
    -------
    dict of str to torch.Tensor
        The tensors by name.

    Raises
    ------
    CheckpointError
        If a tensor is missing, or its file cannot be read or fetched.
    """
    by_file: dict[Path, list[str]] = {}
    for name in names:
        by_file.setdefault(checkpoint.file_of(name), []).append(name)
    tensors = {}
    for file, file_names in by_file.items():
        for name, tensor in _map(file, file_names, device).items():
            tensors[name] = tensor if dtype is None else tensor.to(dtype)
    return tensors


def read_file(file: Path) -> dict[str, torch.Tensor]:
    """Map all tensors of a safetensors file into memory.

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
