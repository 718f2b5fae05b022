"""The index of a checkpoint's tensors, read from file headers without loading a tensor."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from .._core.errors import CheckpointError
from .gguf import gguf_files, read_gguf_model
from .hub import fetch_file, fetch_header
from .source import resolve
from .tensors import TensorInfo, read_header, tensor_infos
from .weight_files import read_config, weight_files

#: Models that are others under a name of their own.
_SAME_AS = {"kimi_k2": "deepseek_v3"}
#: Entries of a config that decide how the rest is read.
_KINDS: dict[str, type] = {"model_type": str, "quantization_config": dict, "quantization": dict}


@dataclass(frozen=True)
class Checkpoint:
    """An open checkpoint, of which no tensor has been loaded.

    Parameters
    ----------
    name
        The name it was opened by: a zoo name, a folder or a hub id.
    folder
        Its local folder.
    config
        Its ``config.json``.
    tensors
        All tensors, by name.
    hub_id
        Hub id from which missing weight files are fetched (None: no file is missing).
    quantization
        What its config, or a file beside it, says of how its tensors are quantized. Where codecs read them, `tensors`
        are what they are decoded to, and `config` no longer speaks of it.
    gguf
        The first GGUF file, if it was opened from some; its `config` follows from their metadata.
    shards
        Folder to which missing weight files are fetched (None: the hub's cache).
    """

    name: str
    folder: Path
    config: Mapping[str, Any]
    tensors: Mapping[str, TensorInfo]
    hub_id: str | None = None
    quantization: Mapping[str, Any] = field(default_factory=dict)
    gguf: Path | None = None
    shards: Path | None = None

    @property
    def model_type(self) -> str:
        """The ``model_type`` of the config, which determines the family."""
        return str(self.config.get("model_type", ""))

    @property
    def packed(self) -> bool:
        """Whether its experts are stored in a compressed format."""
        return (self.config.get("quantization_config") or {}).get("quant_method") == "resmoe"

    @property
    def source(self) -> str:
        """A name by which processes with other working directories can open it: the hub id or the absolute path."""
        return self.hub_id or str(self.location.absolute())

    @property
    def location(self) -> Path:
        """What it is opened by on this machine: its folder, or its GGUF file, beside which others may lie."""
        return self.gguf or self.folder

    @property
    def config_file(self) -> Path | None:
        """Its ``config.json`` (None: it is a GGUF file without one)."""
        path = self.folder / "config.json"
        return None if self.gguf is not None and not path.is_file() else path

    @property
    def encodings(self) -> list[str]:
        """What its tensors are encoded in; empty where all are floats."""
        encoded = [info.encoded for info in self.tensors.values() if info.encoded is not None]
        return sorted({name for tensor in encoded for name in tensor.names})

    @property
    def decodes(self) -> bool:
        """Whether some tensors are not as they lie in the files."""
        return any(info.encoded is not None for info in self.tensors.values())

    @cached_property
    def files(self) -> list[Path]:
        """All files of tensors, in order."""
        return sorted({file for info in self.tensors.values() for file in info.files})

    def stored_in(self, name: str) -> list[tuple[Path, str]]:
        """Return the files that a tensor is read from, and its name in each, fetched from the hub if necessary.

        Raises
        ------
        CheckpointError
            If there is no such tensor, or the hub cannot provide a file.
        """
        if name not in self.tensors:
            raise CheckpointError(f"{self.folder} has no tensor {name!r}: the checkpoint is incomplete")
        info = self.tensors[name]
        places = {file: self.fetched(file) for file in info.files}
        if info.encoded is None:
            return [(places[info.file], name)]
        return [(places[part.file], stored) for stored, part in info.encoded.parts.values()]

    def fetched(self, file: Path) -> Path:
        """Return where a file of tensors lies, after fetching it from the hub if necessary.

        Raises
        ------
        CheckpointError, OutputError
            If the hub cannot provide it, or there is no room for it.
        """
        return file if self.hub_id is None else fetch_file(self.hub_id, file, self.shards)

    def complete_folder(self) -> Path:
        """Return the folder after fetching all missing weight files, as transformers needs it."""
        if self.hub_id is not None:
            for file in self.files:
                fetch_file(self.hub_id, file)
        return self.folder

    @cached_property
    def total_bytes(self) -> int:
        """Stored bytes of all tensors."""
        return sum(info.nbytes for info in self.tensors.values())


def open_checkpoint(source: str | Path) -> Checkpoint:
    """Open a checkpoint without loading its tensors.

    Parameters
    ----------
    source
        A zoo name, a local folder with ``config.json`` and safetensors files, a GGUF file or a folder with the files of
        one model in GGUF, or a hub id.

    Returns
    -------
    Checkpoint
        Its config and the index of its tensors.

    Raises
    ------
    CheckpointError
        If it is missing, damaged, pickled, or refers to files outside of its folder.

    Examples
    --------
    >>> import resmoe_lab as rl
    >>> checkpoint = rl.open_checkpoint("mixtral-tiny")
    >>> checkpoint.model_type
    'mixtral'
    >>> checkpoint.tensors["lm_head.weight"].shape
    (3072, 128)
    """
    folder, hub_id = resolve(source)
    if hub_id is None and (files := _gguf_files(folder)):
        return _open_gguf(str(source), files)
    config = _checked_config(folder)
    if config.get("model_type") in _SAME_AS:
        config["model_type"] = _SAME_AS[config["model_type"]]
    tensors: dict[str, TensorInfo] = {}
    for file in weight_files(folder, hub_id):
        header = (
            read_header(file) if file.is_file() or hub_id is None else tensor_infos(file, fetch_header(hub_id, file))
        )
        for name, info in header.items():
            if name in tensors:
                raise CheckpointError(f"{file} holds tensor {name!r} again, first found in {tensors[name].file}")
            tensors[name] = info
    checkpoint = Checkpoint(str(source), folder, config, tensors, hub_id)
    return checkpoint if checkpoint.packed else _decoded(checkpoint)


def _gguf_files(place: Path) -> list[Path]:
    """The files of a model in GGUF, unless it is a folder with safetensors files."""
    if place.is_dir() and any(place.glob("*.safetensors*")):
        return []
    return gguf_files(place)


def _open_gguf(name: str, files: list[Path]) -> Checkpoint:
    path = files[0].parent / "config.json"
    model = read_gguf_model(files, read_config(path) if path.is_file() else None)
    said = {"quant_method": "gguf", "architecture": model.architecture}
    return Checkpoint(name, files[0].parent, model.config, model.tensors, quantization=said, gguf=files[0])


def _decoded(checkpoint: Checkpoint) -> Checkpoint:
    """The checkpoint as if it were not quantized, where codecs read all that is."""
    from .codecs import decoded_tensors, whole_tensors
    from .reader import read_stored

    quantization = _quantization(checkpoint)
    tensors = decoded_tensors(
        checkpoint.tensors, quantization, dtype=_float_type(checkpoint.config), read=partial(read_stored, checkpoint)
    )
    tensors = whole_tensors(tensors, checkpoint.model_type)
    config = checkpoint.config
    if not any(info.encoded is None and info.quantized for info in tensors.values()):
        said = ("quantization_config", "quantization")
        config = {name: value for name, value in config.items() if name not in said}
    return replace(checkpoint, tensors=tensors, config=config, quantization=quantization)


def _quantization(checkpoint: Checkpoint) -> dict[str, Any]:
    """What is said of the quantization: in the config, or in a file of its own, as older tools write it."""
    said = checkpoint.config.get("quantization_config") or checkpoint.config.get("quantization")
    if isinstance(said, dict) and said:
        return said
    for name, method in (("quantize_config.json", "gptq"), ("hf_quant_config.json", "modelopt")):
        if (checkpoint.folder / name).is_file():
            content = read_config(checkpoint.folder / name)
            said = content.get("quantization")
            return {"quant_method": method, **(said if isinstance(said, dict) and said else content)}
    return {}


def _float_type(config: Mapping[str, Any]) -> str:
    """Safetensors' name of the type that a model is published in: bfloat16 if its config does not say."""
    said = config.get("dtype") or config.get("torch_dtype")
    return {"float32": "F32", "float16": "F16"}.get(str(said).removeprefix("torch."), "BF16")


def _checked_config(folder: Path) -> dict[str, Any]:
    """The config of a folder, of which those entries that decide how the rest is read are what they have to be."""
    config = read_config(folder / "config.json")
    for name, kind in _KINDS.items():
        if not isinstance(config.get(name), kind | None):
            found = type(config[name]).__name__
            raise CheckpointError(
                f"{folder / 'config.json'}: {name} is a {found}, expected {kind.__name__}: correct it"
            )
    return config
