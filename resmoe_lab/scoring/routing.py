"""Share of the tokens that every expert receives."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd
import torch

from .likelihood import Request, model_inputs


@torch.no_grad()
def routing_shares(model: Any, requests: Sequence[Request], *, layers: Sequence[int], top_k: int) -> pd.DataFrame:
    """Count where the router of each layer sends the tokens of some requests.

    Parameters
    ----------
    model
        A transformers model that returns ``router_logits``.
    requests
        Texts, as :func:`~.zeroshot.text_windows` cuts them.
    layers
        Numbers of the MoE layers, in the model's order.
    top_k
        Experts per token.

    Returns
    -------
    pandas.DataFrame
        Columns ``layer, expert, share``; the shares of a layer add up to one.
    """
    counts: list[torch.Tensor] = []
    for request in requests:
        logits = _router_logits(model, request)
        picks = [layer.topk(top_k, dim=-1).indices.flatten().bincount(minlength=layer.shape[-1]) for layer in logits]
        counts = [a + b for a, b in zip(counts, picks, strict=True)] if counts else picks
    rows = [
        (layer, expert, float(count) / float(total.sum()))
        for layer, total in zip(layers, counts, strict=True)
        for expert, count in enumerate(total)
    ]
    return pd.DataFrame(rows, columns=["layer", "expert", "share"])


def _router_logits(model: Any, request: Request) -> tuple[torch.Tensor, ...]:
    """Return the logits of every router in the order of the layers, an encoder's before its decoder's."""
    output = model(**model_inputs(model, request), output_router_logits=True, use_cache=False)
    if model.config.is_encoder_decoder:
        return (*output.encoder_router_logits, *output.decoder_router_logits)
    return output.router_logits
