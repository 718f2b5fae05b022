"""Writing: every file appears whole under its name, or not at all."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch

from .._core.errors import OutputError
from .index import INDEX_FILE, Checkpoint

#: Files that a checkpoint needs beside its tensors to be opened and used.
_COMPANIONS = ("config.json", "generation_config.json", "tokenizer*", "special_tokens_map.json", "vocab*", "merges.txt")


def write_tensors(path: Path, tensors: Mapping[str, torch.Tensor]) -> Path:
    """Write one safetensors file through a temporary name; return its path."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    part = path.with_name(path.name + ".part")
    contiguous = {name: tensor.contiguous() for name, tensor in tensors.items()}
    try:
        save_file(contiguous, str(part), metadata={"format": "pt"})
        _flush(part)
    except (SafetensorError, OSError) as error:
        part.unlink(missing_ok=True)
        raise OutputError(f"{path} could not be written ({error}): what was finished before is valid") from error
    return part.replace(path)


def write_json(path: Path, content: Any) -> Path:
    """Write one JSON file through a temporary name; return its path."""
    part = path.with_name(path.name + ".part")
    part.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", "utf-8")
    _flush(part)
    return part.replace(path)


def write_index(folder: Path, files: Mapping[str, Iterable[str]], *, total_bytes: int) -> Path:
    """Write the index that makes several safetensors files one checkpoint."""
    weight_map = {name: file for file, tensors in files.items() for name in tensors}
    return write_json(folder / INDEX_FILE, {"metadata": {"total_size": total_bytes}, "weight_map": weight_map})


def copy_companions(checkpoint: Checkpoint, folder: Path) -> None:
    """Copy the config, tokenizer and generation files of a checkpoint, byte for byte."""
    for pattern in _COMPANIONS:
        for path in sorted(checkpoint.folder.glob(pattern)):
            part = folder / (path.name + ".part")
            shutil.copyfile(path, part)
            part.replace(folder / path.name)


def _flush(path: Path) -> None:
    with path.open("rb") as stream:
        os.fsync(stream.fileno())
