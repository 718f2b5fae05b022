"""A checkpoint as a transformers model, of which every tensor came from its files, undamaged."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from .._core.errors import CheckpointError, UsageError
from ..checkpoint import Checkpoint, open_checkpoint
from ..checkpoint.reader import read_file
from ..checkpoint.writer import digest
from ..store.manifest import MANIFEST_FILE
from .experts import Mode

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def load(
    source: str | Path,
    mode: Mode | None = None,
    *,
    dtype: torch.dtype = torch.float32,
    cache_experts: int | None = None,
) -> PreTrainedModel:
    """Open a checkpoint, packed or not, and insist that it is whole.

    Parameters
    ----------
    source
        A zoo name, a local folder, or a hub id.
    mode
        How packed experts are computed: ``"factored"`` or ``"restored"``; the first where the form allows it.
    dtype
        What the model computes in. 8 bit values and masks stay as they are stored.
    cache_experts
        Restored experts that each layer keeps at once; an eighth of all, and at least two, if not given.

    Returns
    -------
    transformers.PreTrainedModel
        On the CPU, in evaluation mode, without gradients.

    Raises
    ------
    CheckpointError
        If a tensor is missing, not expected, of another shape, or not what was written.
    UsageError
        If `mode` is not one that the packed form, or an original, has.
    """
    checkpoint = open_checkpoint(source)
    if mode is not None and not checkpoint.packed:
        raise UsageError(f"mode {mode!r} belongs to packed checkpoints, and {checkpoint.name} is not packed")
    return open_model(checkpoint, mode=mode, dtype=dtype, cache_experts=cache_experts)


def open_model(
    checkpoint: Checkpoint, *, dtype: torch.dtype, mode: Mode | None = None, cache_experts: int | None = None
) -> PreTrainedModel:
    """Open an opened checkpoint as :func:`load` does."""
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM
    from transformers.utils import logging

    logging.disable_progress_bar()
    options: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    folder = checkpoint.complete_folder()
    check_hashes(checkpoint)
    config = AutoConfig.from_pretrained(folder, **options)
    if checkpoint.packed:
        config.quantization_config |= {"mode": mode, "cache_experts": cache_experts}
    auto = AutoModelForSeq2SeqLM if checkpoint.config.get("is_encoder_decoder") else AutoModelForCausalLM
    options |= {"config": config, "dtype": dtype, "use_safetensors": True, "output_loading_info": True}
    loaded: Any = auto.from_pretrained(folder, **options)
    model, found = loaded
    for problem in ("missing", "unexpected", "mismatched"):
        if names := sorted(map(str, found[f"{problem}_keys"])):
            raise CheckpointError(f"{folder}: {len(names)} tensors are {problem}, such as {names[0]!r}: copy it again")
    opened: PreTrainedModel = model.eval().requires_grad_(False)
    return opened


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
    try:
        hashes = json.loads(path.read_text("utf-8")).get("files", {})
    except (ValueError, AttributeError) as error:
        raise CheckpointError(f"{path} is damaged ({error}): copy the checkpoint again") from error
    for name, expected in hashes.items():
        actual = digest(read_file(checkpoint.folder / name))
        if actual != expected:
            raise CheckpointError(
                f"{checkpoint.folder / name} is damaged (hash {actual}, expected {expected}): copy it again"
            )
