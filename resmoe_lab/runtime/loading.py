"""A checkpoint as a transformers model, of which every tensor came from its files, undamaged."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from .._core.device import check_device
from .._core.errors import CheckpointError, UsageError
from ..checkpoint import Checkpoint, open_checkpoint
from ..checkpoint.companions import tokenizer_inside
from ..checkpoint.gguf.tokenizer import gguf_tokenizer
from ..checkpoint.reader import read_file, read_tensors
from ..checkpoint.writer import digest
from ..experts import model_class
from ..store.manifest import MANIFEST_FILE, read_manifest
from .experts import Mode
from .packable import model_config
from .requantized import RequantizedMode

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

_IN_LAYER = re.compile(r"(?:^|\.)layers\.(\d+)\.")


def load(
    source: str | Path | Checkpoint,
    mode: Mode | RequantizedMode | None = None,
    *,
    dtype: torch.dtype = torch.float32,
    device: str | torch.device = "cpu",
    cache_experts: int | None = None,
) -> PreTrainedModel:
    """Open a checkpoint, packed or not, and insist that it is complete.

    No code from the folder runs, and every tensor comes from its files.

    Parameters
    ----------
    source
        A zoo name, a local folder, a hub id, or a checkpoint that is open already.
    mode
        How packed experts are computed: ``"factored"`` or ``"restored"``; the first where the format allows it. With
        ``"int8"`` or ``"int4"`` they are restored once and rounded to integers in groups of 64: a small file that runs
        at a fixed rate, with the error of that rounding added.
    dtype
        What the model computes in. 8 bit values and masks stay as they are stored.
    device
        Where the model runs.
    cache_experts
        Restored experts that each layer keeps at once; an eighth of all, and at least two, if not given.

    Returns
    -------
    transformers.PreTrainedModel
        In evaluation mode, without gradients.

    Raises
    ------
    CheckpointError
        If a tensor is missing, not expected, of another shape, or not what was written.
    UsageError
        If `mode` is not one that the packed format, or an original, has, or the device is not there.

    Examples
    --------
    >>> import resmoe_lab as rl
    >>> model = rl.load("mixtral-tiny")
    >>> type(model).__name__
    'MixtralForCausalLM'
    """
    from transformers.utils import logging

    check_device(str(device))
    checkpoint = source if isinstance(source, Checkpoint) else open_checkpoint(source)
    if mode is not None and not checkpoint.packed:
        raise UsageError(f"mode {mode!r} belongs to packed checkpoints, and {checkpoint.name} is not packed")
    logging.disable_progress_bar()
    options: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    folder: Any = checkpoint.complete_folder()
    check_hashes(checkpoint)
    config = model_config(checkpoint)
    if checkpoint.packed:
        config.quantization_config |= {"mode": mode, "cache_experts": cache_experts}
    auto: Any = model_class(config)
    options |= {"config": config, "dtype": dtype, "use_safetensors": True, "output_loading_info": True}
    options |= {"ignore_mismatched_sizes": True}  # they are told below, in a line
    if checkpoint.decodes:
        folder, options["state_dict"] = None, read_tensors(checkpoint, checkpoint.tensors, dtype=dtype)
    loaded: Any = auto.from_pretrained(folder, **options)
    model, info = loaded
    for problem in ("missing", "unexpected", "mismatched"):
        names = sorted(map(str, info[f"{problem}_keys"]))
        if problem == "unexpected":
            names = [name for name in names if not _predicts_further_tokens(name, checkpoint.config)]
        if names:
            raise CheckpointError(
                f"{checkpoint.folder}: {len(names)} tensors are {problem}, such as {names[0]!r}: copy it again"
            )
    model.to(device)
    opened: PreTrainedModel = model.eval().requires_grad_(False)
    return opened


def _predicts_further_tokens(name: str, config: Mapping[str, Any]) -> bool:
    """Whether a tensor is of the layers behind the others that predict further tokens; the model leaves them out."""
    text = config.get("text_config") or config
    match = _IN_LAYER.search(name)
    layers, further = text.get("num_hidden_layers"), text.get("num_nextn_predict_layers") or 0
    return match is not None and isinstance(layers, int) and layers <= int(match[1]) < layers + further


def load_tokenizer(source: str | Path | Checkpoint) -> PreTrainedTokenizerBase:
    """Open the tokenizer of a checkpoint, from its own folder or its GGUF file.

    Parameters
    ----------
    source
        As for :func:`load`.

    Returns
    -------
    transformers.PreTrainedTokenizerBase
        The tokenizer.

    Raises
    ------
    CheckpointError
        If there is no tokenizer.

    Examples
    --------
    >>> import resmoe_lab as rl
    >>> tokenizer = rl.load_tokenizer("mixtral-tiny")
    >>> tokenizer.decode(tokenizer("Ada had a red kite.")["input_ids"], skip_special_tokens=True)
    'Ada had a red kite.'
    """
    from transformers import AutoTokenizer

    checkpoint = source if isinstance(source, Checkpoint) else open_checkpoint(source)
    if (inside := tokenizer_inside(checkpoint)) is not None:
        return gguf_tokenizer(inside)
    folder = checkpoint.complete_folder()
    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise CheckpointError(
            f"{folder} has no tokenizer that can be opened ({reason}): copy the model's tokenizer files there"
        ) from error
    return tokenizer


def load_pair(
    source: str | Path | Checkpoint, *, device: str | torch.device = "cpu"
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Open the tokenizer and the model of a checkpoint, in float32, as :func:`load` does; what is scored needs both.

    Returns
    -------
    model, tokenizer
        Both from the checkpoint's own folder.
    """
    tokenizer = load_tokenizer(source)
    return load(source, device=device), tokenizer


def check_hashes(checkpoint: Checkpoint) -> None:
    """Compare a compressed checkpoint's files with the hashes in its manifest; one that has none is left unchecked.

    Raises
    ------
    CheckpointError
        Naming the file that is damaged.
    """
    path = checkpoint.folder / MANIFEST_FILE
    if not path.is_file():
        return
    hashes = read_manifest(checkpoint.folder).get("files", {})
    for name, expected in hashes.items():
        if Path(name).name != name:
            raise CheckpointError(f"{path} names the file {name!r}, which is outside of the folder: refused")
        actual = digest(read_file(checkpoint.folder / name))
        if actual != expected:
            raise CheckpointError(
                f"{checkpoint.folder / name} is damaged (hash {actual}, expected {expected}): copy it again"
            )
