"""Compressed or restored experts inside a transformers model."""

from __future__ import annotations

from typing import Any

from .._core.deprecation import warn_renamed
from .loading import load as load
from .loading import load_pair as load_pair
from .loading import load_tokenizer as load_tokenizer
from .restore import restored_experts as restored_experts


def load_model(checkpoint: Any, *, device: str = "cpu") -> Any:
    """Return model and tokenizer: the old name of :func:`load` and :func:`load_tokenizer`."""
    warn_renamed("load_model", "load and load_tokenizer")
    return load_pair(checkpoint, device=device)
