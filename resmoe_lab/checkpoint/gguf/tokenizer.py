"""The tokenizer that a GGUF file holds, as transformers reads it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ..._core.errors import CheckpointError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

#: Files of which one holds a tokenizer.
TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "tokenizer_config.json")


def gguf_tokenizer(file: Path) -> PreTrainedTokenizerBase:
    """Build the tokenizer that is in the metadata of a GGUF file.

    Raises
    ------
    CheckpointError
        If there is none, or it is of a kind that transformers does not build from them.
    """
    from transformers import PreTrainedTokenizerFast

    try:
        tokenizer: PreTrainedTokenizerBase = PreTrainedTokenizerFast.from_pretrained(
            str(file.parent), gguf_file=file.name, local_files_only=True
        )
    except Exception as error:  # what the tokenizers library raises has no type of its own
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise CheckpointError(
            f"{file} holds no tokenizer that transformers can build ({reason}): put the model's tokenizer files "
            "beside it"
        ) from error
    return tokenizer
