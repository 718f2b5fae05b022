"""Activations of the frozen lower layers for each training batch, computed once and stored on disk."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from .._core.files import atomic_write, remove_partial_files

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class ActivationShard:
    """One batch of training rows and its hidden states.

    Parameters
    ----------
    tokens
        (B, T) int64.
    hidden
        (B, T, p) hidden states that enter the lowest layer with experts.
    """

    tokens: torch.Tensor
    hidden: torch.Tensor


class ActivationShards:
    """Batches of training rows with their hidden states, read from disk where they have been computed before.

    Parameters
    ----------
    dense
        The dense model, Llama-like.
    tokens
        (R, T) int64 training rows.
    folder
        Where the batches are stored.
    split
        Number of the lowest layer with experts.
    batch_size
        Rows of a batch.
    fingerprint
        Identifies what decides the batches; files with another one are not used.
    """

    def __init__(
        self,
        dense: PreTrainedModel,
        tokens: torch.Tensor,
        *,
        folder: Path,
        split: int,
        batch_size: int,
        fingerprint: str,
    ) -> None:
        self._dense, self._folder, self._split, self._fingerprint = dense, folder, split, fingerprint
        self._rows = tokens.split(batch_size)
        folder.mkdir(parents=True, exist_ok=True)
        remove_partial_files(folder)

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, number: int) -> ActivationShard:
        path = self._folder / f"batch-{number:05d}.safetensors"
        if path.is_file():
            # A shard that cannot be read is computed again.
            with suppress(SafetensorError, OSError), safe_open(str(path), framework="pt") as stored:
                if (stored.metadata() or {}).get("fingerprint") == self._fingerprint:
                    return ActivationShard(*(stored.get_tensor(name) for name in ("tokens", "hidden")))
        batch = self._compute(self._rows[number])
        with atomic_write(path) as part:
            save_file(vars(batch), str(part), metadata={"fingerprint": self._fingerprint})
        return batch

    @torch.no_grad()
    def _compute(self, tokens: torch.Tensor) -> ActivationShard:
        device = self._dense.device
        decoder = self._dense.get_decoder()
        hidden = decoder.embed_tokens(tokens.to(device))
        embeddings = rotary_embeddings(decoder, hidden)
        hidden = run_layers(decoder.layers[: self._split], hidden, embeddings)
        return ActivationShard(tokens.contiguous(), hidden.cpu().contiguous())


def rotary_embeddings(decoder: Any, hidden: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the rotary embeddings of positions 0 to T - 1 of (B, T, p) hidden states."""
    return decoder.rotary_emb(hidden, torch.arange(hidden.shape[1], device=hidden.device)[None])


def run_layers(
    layers: Iterable[Any], hidden: torch.Tensor, embeddings: tuple[torch.Tensor, torch.Tensor]
) -> torch.Tensor:
    """Run (B, T, p) hidden states through some layers of a decoder; rows are causal and have no padding."""
    for layer in layers:
        hidden = layer(hidden, attention_mask=None, position_embeddings=embeddings)
    return hidden
