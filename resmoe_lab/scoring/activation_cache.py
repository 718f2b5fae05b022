"""Hidden states below the first compressed layer, computed once for all methods that are compared."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from .._core.files import temporary_folder
from .likelihood import decoder_of

#: What must stay free on the disk of the temporary folder.
_RESERVE = 1 << 30


@contextmanager
def lower_states_kept(model: Any, *, first: int) -> Iterator[None]:
    """Compute what enters layer `first` once per batch, and read it from disk when the same batch comes again.

    While the block runs, layers below `first` must not be changed. Whoever runs the model, our scoring or the
    harness, need not know: a batch is recognised by its tokens, their positions and its mask. Passes with a key-value
    cache run as usual, and so do encoder-decoders, whose decoder reads what every layer of the encoder has done.

    Parameters
    ----------
    model
        A language model of transformers.
    first
        Number of the lowest layer that changes; 0 keeps nothing.
    """
    if first < 1 or model.config.is_encoder_decoder:
        yield
        return
    decoder = decoder_of(model)
    originals = list(decoder.layers[:first])
    with temporary_folder("resmoe-lower-") as folder:
        states = _States(folder)
        hook = decoder.register_forward_pre_hook(states.begin, with_kwargs=True)
        for number, layer in enumerate(originals):
            decoder.layers[number] = _Recalling(layer, states, last=number == first - 1)
        try:
            yield
        finally:
            hook.remove()
            for number, layer in enumerate(originals):
                decoder.layers[number] = layer


class _States:
    """The hidden states of the batches seen so far, one file a batch."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._path: Path | None = None
        self.known: torch.Tensor | None = None

    def begin(self, decoder: Any, args: tuple[Any, ...], given: dict[str, Any]) -> None:
        """Find out at the start of a pass whether its batch has been here."""
        self._path = self.known = None
        inputs = given.get("input_ids", args[0] if args else None)
        if (
            inputs is None
            or torch.is_grad_enabled()
            or given.get("use_cache")
            or given.get("past_key_values") is not None
        ):
            return
        digest = hashlib.blake2b(digest_size=16)
        for tensor in (inputs, given.get("attention_mask"), given.get("position_ids")):
            digest.update(b"-" if tensor is None else f"{tuple(tensor.shape)} {tensor.dtype}".encode())
            if tensor is not None:
                digest.update(tensor.cpu().contiguous().view(torch.uint8).numpy().data)
        self._path = self._folder / digest.hexdigest()
        if self._path.is_file():
            self.known = load_file(str(self._path))["hidden"].to(inputs.device)

    def keep(self, hidden: Any) -> None:
        """Write what the lower layers gave, as far as there is room."""
        if self._path is None or not torch.is_tensor(hidden):
            return
        if shutil.disk_usage(self._folder).free > _RESERVE + hidden.nbytes:
            save_file({"hidden": hidden.detach().cpu().contiguous()}, str(self._path))


class _Recalling(torch.nn.Module):
    """A lower layer that does nothing when what it and its neighbours would give is known."""

    def __init__(self, layer: torch.nn.Module, states: _States, *, last: bool) -> None:
        super().__init__()
        self.layer, self._states, self._last = layer, states, last

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("layer"), name)

    def forward(self, hidden_states: torch.Tensor, *args: Any, **given: Any) -> Any:
        """Give what is known, or compute it."""
        if self._states.known is not None:
            return self._states.known if self._last else hidden_states
        output = self.layer(hidden_states, *args, **given)
        if self._last:
            self._states.keep(output)
        return output
