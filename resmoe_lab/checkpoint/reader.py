"""Memory-mapped reading of tensors, by name."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import torch

from .._core.errors import CheckpointError
from .gguf import map_gguf, read_gguf_header
from .index import Checkpoint
from .tensors import read_header

#: The dtypes of unquantized weights, by their names in safetensors.
TORCH_DTYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "F64": torch.float64}


def read_tensors(
    checkpoint: Checkpoint, names: Iterable[str], *, dtype: torch.dtype | None = None, device: str = "cpu"
) -> dict[str, torch.Tensor]:
    """Map tensors into memory; copies are made only of encoded ones, and for another dtype or device.

    Parameters
    ----------
    checkpoint
        The checkpoint.
    names
        Tensor names.
    dtype
        Dtype to convert to (None: as the checkpoint's index says).
    device
        Device of the tensors.

    Returns
    -------
    dict of str to torch.Tensor
        The tensors by name.

    Raises
    ------
    CheckpointError
        If a tensor is missing, its file cannot be read or fetched, or it cannot be decoded.
    """
    names = list(names)
    reader = TensorReader(checkpoint, names, device=device)
    return {name: reader.read(name).to(dtype or TORCH_DTYPES.get(reader.dtype(name))) for name in names}


def read_stored(checkpoint: Checkpoint, names: Iterable[str]) -> dict[str, torch.Tensor]:
    """Map what lies in the files of some tensors into memory: themselves, or the parts that they are decoded from."""
    return TensorReader(checkpoint, names).stored


class TensorReader:
    """Some tensors of a checkpoint, mapped into memory, of which encoded ones are decoded when they are read.

    Parameters
    ----------
    checkpoint, names, device
        As for :func:`read_tensors`.

    Raises
    ------
    CheckpointError
        If a tensor is missing, or its file cannot be read or fetched.
    """

    def __init__(self, checkpoint: Checkpoint, names: Iterable[str], *, device: str = "cpu") -> None:
        self._checkpoint = checkpoint
        by_file: dict[Path, list[str]] = {}
        for name in names:
            for file, stored in checkpoint.stored_in(name):
                by_file.setdefault(file, []).append(stored)
        #: What lies in the files, by its name there.
        self.stored: dict[str, torch.Tensor] = {}
        for file, stored_names in by_file.items():
            self.stored |= _map(file, dict.fromkeys(stored_names), device)
        self._decoded: tuple[tuple[str, int | None], torch.Tensor] | None = None

    def dtype(self, name: str) -> str:
        """Return safetensors' name of a tensor's type."""
        return self._checkpoint.tensors[name].dtype

    def read(self, name: str, expert: int | None = None) -> torch.Tensor:
        """Return a tensor, or with `expert` one place of its first axis: as stored, or decoded to float32.

        The last one decoded is kept.
        """
        from .codecs import fitting

        info = self._checkpoint.tensors[name]
        if info.encoded is None:
            tensor = self.stored[name]
            return tensor if expert is None else tensor[expert]
        if not info.encoded.stacked:
            tensor = self._decode(name, None)
            return tensor if expert is None else tensor[expert]
        if expert is None:
            with fitting(f"tensor {name!r}"):
                return torch.stack([self._decode(name, k) for k in range(info.shape[0])])
        return self._decode(name, expert)

    def _decode(self, name: str, expert: int | None) -> torch.Tensor:
        from .codecs import CODECS, fitting

        if self._decoded is None or self._decoded[0] != (name, expert):
            info = self._checkpoint.tensors[name]
            encoded = info.encoded
            assert encoded is not None
            parts = {role: self.stored[stored] for role, (stored, _) in encoded.parts.items()}
            shape = info.shape
            if expert is not None:
                experts, shape = shape[0], shape[1:]
                parts = {role: part[expert] if part.shape[:1] == (experts,) else part for role, part in parts.items()}
            with fitting(f"tensor {name!r}"):
                self._decoded = (name, expert), CODECS[encoded.codec].decode(encoded, parts, shape)
        return self._decoded[1]


def data_start(file: Path) -> int:
    """Return the byte of a safetensors or GGUF file at which its header ends."""
    if file.suffix == ".gguf":
        return read_gguf_header(file).start
    with file.open("rb") as stream:
        return 8 + int.from_bytes(stream.read(8), "little")


def read_file(file: Path) -> dict[str, torch.Tensor]:
    """Map all tensors of a safetensors file into memory, or the bytes of those of a GGUF file.

    Raises
    ------
    CheckpointError
        If it is damaged or cannot be read.
    """
    names = read_gguf_header(file).tensors if file.suffix == ".gguf" else read_header(file)
    return _map(file, list(names), "cpu")


def _map(file: Path, names: Iterable[str], device: str) -> dict[str, torch.Tensor]:
    from safetensors import SafetensorError, safe_open

    if file.suffix == ".gguf":
        return map_gguf(file, names, device)

    try:
        with safe_open(str(file), framework="pt", device=device) as stream:
            return {name: stream.get_tensor(name) for name in names}
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{file} cannot be read ({error}): copy it again") from error
