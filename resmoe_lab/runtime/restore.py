"""Restored experts inside the transformers model they came from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

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
    """
    from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoTokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()
    options = {"local_files_only": True, "trust_remote_code": False}
    tokenizer = AutoTokenizer.from_pretrained(checkpoint.folder, **options)
    auto = AutoModelForSeq2SeqLM if checkpoint.config.get("is_encoder_decoder") else AutoModelForCausalLM
    model: PreTrainedModel = auto.from_pretrained(
        checkpoint.folder, dtype=torch.float32, use_safetensors=True, **options
    )
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
