"""Activations below the first compressed layer, computed once for all methods that are compared."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from .decoder import decoder_of

#: What must stay free on the disk of the cache.
_FREE_BYTES = 1 << 30


@contextmanager
def cached_activations(model: Any, *, first: int, folder: Path) -> Iterator[None]:
    """Compute the hidden states that enter layer `first` once per batch, and read them from disk afterwards.

    While the block runs, layers below `first` must have the weights that they had when the folder was begun. The
    caller, our scoring or the harness, need not change: a batch is recognised by its tokens, their positions and its
    mask. Passes with a key-value cache or with gradients run as usual, and so do encoder-decoders, whose decoder needs
    the output of every layer of the encoder.

    Parameters
    ----------
    model
        A language model of transformers.
    first
        Number of the lowest layer that changes; 0 caches nothing.
    folder
        Where the hidden states are stored, one file a batch; another block may go on with it.
    """
    if first < 1 or model.config.is_encoder_decoder:
        yield
        return
    decoder = decoder_of(model)
    originals = list(decoder.layers[:first])
    store = _ActivationStore(folder)
    hook = decoder.register_forward_pre_hook(store.begin_pass, with_kwargs=True)
    for number, layer in enumerate(originals):
        decoder.layers[number] = _CachedLayer(layer, store, last=number == first - 1)
    try:
        yield
    finally:
        hook.remove()
        for number, layer in enumerate(originals):
            decoder.layers[number] = layer


class _ActivationStore:
    """The hidden states of the batches seen so far, one file a batch."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._path: Path | None = None
        #: What the layers give for the current batch, where it was seen before.
        self.hidden: torch.Tensor | None = None

    def begin_pass(self, decoder: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Look the batch of a forward pass up before the first layer runs."""
        self._path = self.hidden = None
        inputs = kwargs.get("input_ids", args[0] if args else None)
        if (
            inputs is None
            or torch.is_grad_enabled()
            or kwargs.get("use_cache")
            or kwargs.get("past_key_values") is not None
        ):
            return
        digest = hashlib.blake2b(digest_size=16)
        for tensor in (inputs, kwargs.get("attention_mask"), kwargs.get("position_ids")):
            digest.update(b"-" if tensor is None else f"{tuple(tensor.shape)} {tensor.dtype}".encode())
            if tensor is not None:
                digest.update(tensor.cpu().contiguous().view(torch.uint8).numpy().data)
        self._path = self._folder / digest.hexdigest()
        if self._path.is_file():
            self.hidden = load_file(str(self._path))["hidden"].to(inputs.device)

    def save(self, hidden: Any) -> None:
        """Write the current batch's hidden states, as far as there is room; else they are computed again."""
        if self._path is None or not torch.is_tensor(hidden):
            return
        if shutil.disk_usage(self._folder).free > _FREE_BYTES + hidden.nbytes:
            try:
                save_file({"hidden": hidden.detach().cpu().contiguous()}, str(self._path))
            except (SafetensorError, OSError):  # another process took the room
                self._path.unlink(missing_ok=True)


class _CachedLayer(torch.nn.Module):
    """A layer that is skipped for batches whose hidden states are stored."""

    def __init__(self, layer: torch.nn.Module, store: _ActivationStore, *, last: bool) -> None:
        super().__init__()
        self.layer, self._store, self._last = layer, store, last

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("layer"), name)

    def forward(self, hidden_states: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        """Return the stored hidden states, or compute and store them."""
        if self._store.hidden is not None:
            return self._store.hidden if self._last else hidden_states
        output = self.layer(hidden_states, *args, **kwargs)
        if self._last:
            self._store.save(output)
        return output
