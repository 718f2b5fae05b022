"""Restored experts inside the transformers model they came from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

from .._core.errors import CheckpointError
from ..checkpoint import Checkpoint
from ..experts import ExpertStack, family_of
from .loading import open_model

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def load_model(checkpoint: Checkpoint, *, device: str = "cpu") -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Open a checkpoint, packed or not, as a transformers model in float32, with its tokenizer.

    No code from the folder runs, and every tensor came from its files: see :func:`~.loading.load`.

    Returns
    -------
    model, tokenizer
        Both from the checkpoint's own folder.

    Raises
    ------
    CheckpointError
        If there is no tokenizer.
    """
    from transformers import AutoTokenizer

    folder = checkpoint.complete_folder()
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise CheckpointError(
            f"{folder} has no tokenizer that can be opened ({reason}): copy the model's tokenizer files there"
        ) from error
    model = open_model(checkpoint, dtype=torch.float32)
    model.to(device)  # type: ignore[arg-type]  # a string is a device to torch
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
            originals.append(family.from_model(model, stack.layer))
            family.to_model(model, stack)
        yield model
    finally:
        for original in originals:
            family.to_model(model, original)
