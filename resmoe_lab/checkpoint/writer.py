"""Atomic writing of checkpoint files."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch

from .._core.files import atomic_write, full_disk
from .weight_files import INDEX_FILE


def write_tensors(
    path: Path, tensors: Mapping[str, torch.Tensor], *, metadata: Mapping[str, str] | None = None
) -> Path:
    """Write a safetensors file; return its path.

    Parameters
    ----------
    path
        The file.
    tensors
        Tensors by name; memory-mapped ones are not copied.
    metadata
        Further entries of its header.

    Raises
    ------
    OutputError
        If it cannot be written there.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    contiguous = {name: tensor.contiguous() for name, tensor in tensors.items()}
    with atomic_write(path) as part:
        try:
            save_file(contiguous, part, metadata={"format": "pt", **(metadata or {})})
        except SafetensorError as error:
            raise full_disk(path, OSError(str(error))) from error
    return path


def write_json(path: Path, content: Any) -> Path:
    """Write a JSON file; return its path."""
    with atomic_write(path) as part:
        part.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", "utf-8")
    return path


def write_index(folder: Path, files: Mapping[str, Iterable[str]], *, total_bytes: int, name: str = INDEX_FILE) -> Path:
    """Write the index of a checkpoint of several safetensors files."""
    weight_map = {tensor: file for file, tensors in files.items() for tensor in tensors}
    return write_json(folder / name, {"metadata": {"total_size": total_bytes}, "weight_map": weight_map})


def digest(tensors: Mapping[str, torch.Tensor]) -> str:
    """Return a BLAKE2 hash of tensors' names and bytes, in the order of their names."""
    result = hashlib.blake2b(digest_size=16)
    for name in sorted(tensors):
        result.update(name.encode())
        result.update(tensors[name].contiguous().cpu().flatten().view(torch.uint8).numpy().data)
    return result.hexdigest()
