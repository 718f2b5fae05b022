"""Restored experts inside the transformers model they came from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

from .._core.errors import CheckpointError
from ..checkpoint import Checkpoint
from ..experts import ExpertStack, family_of

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def load_model(checkpoint: Checkpoint, *, device: str = "cpu") -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Open a checkpoint as a transformers model in float32, with its tokenizer, running no code from the folder.

    Returns
    -------
    model, tokenizer
        Both from the checkpoint's own folder.

    Raises
    ------
    CheckpointError
        If there is no tokenizer.
    """
    from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoTokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()
    folder = checkpoint.whole_folder()
    options = {"local_files_only": True, "trust_remote_code": False}
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, **options)
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise CheckpointError(
            f"{folder} has no tokenizer that can be opened ({reason}): copy the model's tokenizer files there"
        ) from error
    auto = AutoModelForSeq2SeqLM if checkpoint.config.get("is_encoder_decoder") else AutoModelForCausalLM
    model: PreTrainedModel = auto.from_pretrained(folder, dtype=torch.float32, use_safetensors=True, **options)
    model.to(device).eval().requires_grad_(False)  # type: ignore[arg-type]  # a string is a device to torch
    return model, tokenizer


@contextmanager
def restored_experts(
    model: torch.nn.Module, checkpoint: Checkpoint, stacks: Iterable[ExpertStack]
) -> Iterator[torch.nn.Module]:
    """Run a model with other experts, and put its own back afterwards.

    Parameters
    ----------
    model
        The transformers model of the checkpoint.
    checkpoint
        Decides the family.
    stacks
        The experts to run with, one stack a layer.
    """
    family = family_of(checkpoint)
    originals = []
    try:
        for stack in stacks:
            originals.append(family.pull(model, stack.layer))
            family.push(model, stack)
        yield model
    finally:
        for original in originals:
            family.push(model, original)
