"""What lies beside a checkpoint's tensors and belongs to the model: tokenizers, templates, code, licences."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

from .._core.errors import CheckpointError, ResmoeWarning
from .._core.files import atomic_write, make_folder
from .._core.parsing import read_json
from .gguf.tokenizer import TOKENIZER_FILES, gguf_tokenizer
from .hub import PATTERNS
from .index import Checkpoint

#: Those that speak of the weights that are replaced, or of how they were trained.
_OTHERS = (
    *("*.index.json", "quantize_config.json", "quant_config.json", "hf_quant_config.json", "adapter_*.json"),
    *("params.json", "recipe.yaml", "resmoe_manifest.json", "trainer_state.json", "training_args*", "*_results.json"),
)
_WEIGHTS = ("*.safetensors", "*.gguf", "*.bin", "*.pt", "*.pth", "*.ckpt", "*.h5", "*.msgpack", "*.onnx", "*.json")


def companion_files(checkpoint: Checkpoint) -> list[Path]:
    """Return the files of a checkpoint that are copied with it, by their place in its folder.

    Code is among them where a config or a tokenizer names it (``auto_map``); it is copied and never run.
    """
    return [file for file in _files(checkpoint) if _belongs(file) or file.name in _named_code(checkpoint)]


def left_out(checkpoint: Checkpoint) -> list[str]:
    """Return the names of the files that are neither weights nor copied."""
    copied = companion_files(checkpoint)
    others = [file for file in _files(checkpoint) if file not in copied]
    return [file.as_posix() for file in others if not any(fnmatch(file.name, pattern) for pattern in _WEIGHTS)]


def copy_companion_files(checkpoint: Checkpoint, folder: Path, *, code: bool = True) -> None:
    """Copy the files beside a checkpoint's tensors, byte for byte; `code`, whether that is copied too.

    The tokenizer in a GGUF file is written as transformers does; that it cannot be built is a warning.
    """
    for file in companion_files(checkpoint):
        if file.suffix == ".py" and not code:
            continue
        make_folder((folder / file).parent)
        with atomic_write(folder / file) as part:
            shutil.copyfile(checkpoint.folder / file, part)
    if (inside := tokenizer_inside(checkpoint)) is not None:
        _write_tokenizer(inside, folder)


def tokenizer_inside(checkpoint: Checkpoint) -> Path | None:
    """Return the GGUF file that holds a checkpoint's tokenizer (None: files beside its tensors do)."""
    beside = {file.name for file in _files(checkpoint)}
    return None if beside.intersection(TOKENIZER_FILES) else checkpoint.gguf


def _write_tokenizer(file: Path, folder: Path) -> None:
    try:
        gguf_tokenizer(file).save_pretrained(str(folder))
    except CheckpointError as error:
        warnings.warn(f"{error}, and into {folder}", ResmoeWarning, stacklevel=2)


def _files(checkpoint: Checkpoint) -> list[Path]:
    """Files of the folder, and of the one folder in it that tokenizers use.

    What lies beside a GGUF file that was named alone is its own only where a ``config.json`` makes a checkpoint of it.
    """
    if checkpoint.gguf is not None and checkpoint.config_file is None and Path(checkpoint.name).is_file():
        return []
    places = [checkpoint.folder, checkpoint.folder / "additional_chat_templates"]
    found = (path for place in places if place.is_dir() for path in place.iterdir())
    names = (path.relative_to(checkpoint.folder) for path in found if path.is_file() and not path.name.startswith("."))
    return sorted(names)


def _belongs(file: Path) -> bool:
    name = file.as_posix()
    return any(fnmatch(name, pattern) for pattern in PATTERNS) and not any(fnmatch(name, one) for one in _OTHERS)


def _named_code(checkpoint: Checkpoint) -> set[str]:
    """Names of the Python files of the folder that its configs refer to, and of those beside them.

    A module may import its neighbours, so all go along where one is named.
    """
    named = {
        f"{module.rpartition('--')[2].partition('.')[0]}.py"
        for name in ("config.json", "tokenizer_config.json", "processor_config.json", "preprocessor_config.json")
        for module in _auto_map(checkpoint.folder / name)
    }
    code = {file.name for file in _files(checkpoint) if file.suffix == ".py" and len(file.parts) == 1}
    return code if named & code else set()


def _auto_map(path: Path) -> Iterator[str]:
    try:
        content = read_json(path) if path.is_file() else {}
    except ValueError:
        return  # whoever opens it says so
    entries = content.get("auto_map") if isinstance(content, dict) else None
    for entry in entries.values() if isinstance(entries, dict) else ():
        yield from (name for name in (entry if isinstance(entry, list) else [entry]) if isinstance(name, str))
