"""Saving and loading networks: safetensors, and the paper's published checkpoints."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from pickle import UnpicklingError

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from .._core.errors import CheckpointError
from .._core.files import atomic_write
from .networks import MLPNet


def save_network(network: nn.Module, path: str | Path) -> Path:
    """Save a network's tensors as safetensors, atomically.

    Parameters
    ----------
    network
        The network.
    path
        The file; its folder is created if needed.

    Returns
    -------
    pathlib.Path
        The file.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     path = save_network(MLPNet((4, 3, 2)), f"{folder}/network.safetensors")
    ...     load_mlpnet(path).fc1
    Linear(in_features=4, out_features=3, bias=False)
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as part:
        save_file({name: tensor.contiguous() for name, tensor in network.state_dict().items()}, part)
    return path


def load_mlpnet(path: str | Path) -> MLPNet:
    """Load a fully connected network, with the widths of the stored tensors.

    Parameters
    ----------
    path
        A safetensors file, or a pickled checkpoint as published with the paper, of which only tensors and plain values
        are read.

    Returns
    -------
    MLPNet
        In evaluation mode, on the CPU.

    Raises
    ------
    CheckpointError
        If the file is missing, damaged, or not such a network.

    Examples
    --------
    See :func:`save_network`.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"no network at {path}, expected a safetensors file or a published checkpoint")
    state = _load_tensors(path)
    weights = {name: tensor for name, tensor in state.items() if name.endswith(".weight")}
    names = [f"fc{index}" for index in range(1, len(weights) + 1)]
    allowed = {f"{name}.{part}" for name in names for part in ("weight", "bias")}
    rows = [state[f"{name}.weight"] for name in names if f"{name}.weight" in state]
    is_chain = all(a.ndim == b.ndim == 2 and len(a) == b.shape[1] for a, b in pairwise(rows))
    if not rows or len(rows) < len(names) or not is_chain or not set(state) <= allowed:
        present = ", ".join(sorted(state)[:4])
        raise CheckpointError(f"{path} holds {present} ..., expected fc1.weight to fcL.weight of one chain")
    network = MLPNet([rows[0].shape[1], *map(len, rows)], bias="fc1.bias" in state)
    network.load_state_dict(state)
    return network.eval()


def _load_tensors(path: Path) -> dict[str, Tensor]:
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        return dict(torch.load(path, map_location="cpu", weights_only=True)["model_state_dict"])
    except (
        OSError,
        EOFError,
        RuntimeError,
        ValueError,
        LookupError,
        TypeError,
        SafetensorError,
        UnpicklingError,
    ) as error:
        raise CheckpointError(
            f"{path} is damaged, or holds more than tensors and plain values; expected safetensors or a checkpoint "
            "with a model_state_dict"
        ) from error
