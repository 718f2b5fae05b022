"""Logits of hidden states, as a model's own forward computes them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from .decoder import text_decoder


class _KnownStates:
    """What an encoder or decoder returns when its last hidden states are known: those, and nothing else."""

    def __init__(self, states: Tensor) -> None:
        self.last_hidden_state = states

    def __getitem__(self, index: int) -> Tensor:
        return (self.last_hidden_state,)[index]

    def __getattr__(self, name: str) -> None:
        return None


def logits_of(model: Any, states: Tensor) -> Tensor:
    """Return the logits that a model computes from the last hidden states of its decoder.

    Between the two lies more than the output embeddings in many families: Granite divides by ``logits_scaling``, T5
    scales where the embeddings are tied, Gemma caps. So the model's own forward is run, with a decoder that returns
    the given states.

    Parameters
    ----------
    model
        A causal or encoder-decoder language model of transformers.
    states
        (n, p): hidden states after the decoder's final norm.

    Returns
    -------
    torch.Tensor
        (n, V) in the model's type.
    """
    device = states.device
    tokens = torch.zeros(1, len(states), dtype=torch.long, device=device)
    inputs: dict[str, Any] = {"input_ids": tokens}
    if model.config.is_encoder_decoder:
        inputs = {"encoder_outputs": _KnownStates(states[None]), "decoder_input_ids": tokens}
    with _decoder_returns(model, states[None]):
        return model(**inputs, use_cache=False).logits[0]


@contextmanager
def _decoder_returns(model: Any, states: Tensor) -> Iterator[None]:
    decoder = text_decoder(model)
    own = vars(decoder).get("forward")
    hooks = decoder._forward_pre_hooks, decoder._forward_hooks
    decoder.forward = lambda *args, **kwargs: _KnownStates(states)
    # Whoever watches the decoder watches its passes, of which this is none.
    decoder._forward_pre_hooks, decoder._forward_hooks = OrderedDict(), OrderedDict()
    try:
        yield
    finally:
        decoder._forward_pre_hooks, decoder._forward_hooks = hooks
        del decoder.forward
        if own is not None:  # someone else's replacement
            decoder.forward = own
