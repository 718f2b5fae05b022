"""The decoder inside a language model, and its last norm."""

from __future__ import annotations

from typing import Any

import torch

from .._core.errors import CheckpointError


def decoder_of(model: Any) -> Any:
    """Return the module of a decoder-only model that holds its layers (Llama 4 calls itself its decoder)."""
    decoder = model.get_decoder()
    return decoder if hasattr(decoder, "layers") else decoder.model


def text_decoder(model: Any) -> Any:
    """Return the module whose last hidden states the output embeddings read, of an encoder-decoder too."""
    return model.get_decoder() if model.config.is_encoder_decoder else decoder_of(model)


@torch.no_grad()
def final_norm(model: Any) -> Any:
    """Return the module between a decoder's last layer and its last hidden states, whatever a family calls it.

    It is found by running the model on one token: its output is what the decoder returns.

    Raises
    ------
    CheckpointError
        If there is none.
    """
    decoder, outputs = text_decoder(model), dict[Any, Any]()

    def record(module: Any, args: Any, output: Any) -> None:
        outputs[module] = output

    hooks = [child.register_forward_hook(record) for child in decoder.children()]
    token = torch.zeros(1, 1, dtype=torch.long, device=model.device)
    inputs = {"input_ids": token} | ({"decoder_input_ids": token} if model.config.is_encoder_decoder else {})
    hooks.append(decoder.register_forward_hook(record))
    try:
        model(**inputs, use_cache=False)
    finally:
        for hook in hooks:
            hook.remove()
    hidden = outputs.pop(decoder).last_hidden_state
    norms = [module for module, output in outputs.items() if torch.is_tensor(output) and torch.equal(output, hidden)]
    if not norms:
        raise CheckpointError(f"{type(model).__name__} has no norm after its layers: its layers cannot be read out")
    return norms[-1]
