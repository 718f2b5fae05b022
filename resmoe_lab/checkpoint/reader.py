"""Reading tensors: only the named ones, each straight from its mapped file."""

from __future__ import annotations

from collections.abc import Iterable

import torch

from .._core.errors import CheckpointError
from .index import Checkpoint


def read_tensors(
    checkpoint: Checkpoint, names: Iterable[str], *, dtype: torch.dtype | None = None, device: str = "cpu"
) -> dict[str, torch.Tensor]:
    """Load the named tensors and nothing else.

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
        If a tensor is missing or its file cannot be read.
    """
    from safetensors import SafetensorError, safe_open

    by_file: dict[object, list[str]] = {}
    for name in names:
        if name not in checkpoint.tensors:
            raise CheckpointError(f"{checkpoint.folder} has no tensor {name!r}: the checkpoint is incomplete")
        by_file.setdefault(checkpoint.tensors[name].file, []).append(name)
    tensors = {}
    for file, wanted in by_file.items():
        try:
            with safe_open(str(file), framework="pt", device=device) as stream:
                for name in wanted:
                    tensor = stream.get_tensor(name)
                    tensors[name] = tensor if dtype is None else tensor.to(dtype)
        except (SafetensorError, OSError) as error:
            raise CheckpointError(f"{file} cannot be read ({error}): copy it again") from error
    return tensors
