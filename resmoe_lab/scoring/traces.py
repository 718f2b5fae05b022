"""What a model does with every token of a text: its hidden states, and where its routers send it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .._core.errors import CheckpointError
from ..experts import Family
from .decoder import text_decoder
from .likelihood import Request, model_inputs, split_context, with_end_token


@dataclass(frozen=True, eq=False)
class LayerRouting:
    """Where one layer's router sends the tokens of a text.

    Parameters
    ----------
    tokens
        (T,) int64: which token of the text each row is.
    experts
        (T, top_k) int64: the experts of each, that of the largest gate first; -1 for none.
    num_experts
        How many the layer has.
    log_gates
        (T, N) float32: log-softmax of the router's logits, whatever the model makes of these; None where the router is
        more than a matrix (Zaya, Inkling).
    """

    tokens: Tensor
    experts: Tensor
    num_experts: int
    log_gates: Tensor | None


@dataclass(frozen=True, eq=False)
class TokenTrace:
    """What a model does with every token of one text.

    Parameters
    ----------
    predicting
        (n,) int64: the tokens after which the model predicts the next. A decoder predicts after all of them; an
        encoder-decoder, which is given a text in two parts, after the last of the first part and those of the second.
    states
        (L + 1, n, p) float32: hidden states at those tokens, the embeddings and those after every layer; the last one
        after the decoder's final norm. Of several residual streams (DeepSeek-V4) their mean.
    routing
        Number of a layer with experts -> its routing.
    """

    predicting: Tensor
    states: Tensor
    routing: Mapping[int, LayerRouting]


def token_request(model: Any, tokens: Sequence[int]) -> Request:
    """Return tokens as a request: an encoder-decoder reads its beginning and predicts the rest.

    Parameters
    ----------
    model
        The model that is to be traced.
    tokens
        At least two token ids.
    """
    cut = len(tokens) - 1 if model.config.is_encoder_decoder else 1
    return Request(tuple(tokens[:cut]), tuple(tokens[cut:]))


@torch.no_grad()
def trace_tokens(model: Any, family: Family, request: Request, *, layers: Sequence[int]) -> TokenTrace:
    """Run a model over a text, and record hidden states and routing of every token.

    Parameters
    ----------
    model
        A transformers model of the family, also one with packed experts.
    family
        Knows where its routers and experts are.
    request
        The text, as :func:`token_request` cuts it.
    layers
        Numbers of the layers with experts.

    Raises
    ------
    CheckpointError
        If the family's experts do not receive the selected experts of each token (Llama 4).
    """
    places = _places(model, request)
    recorders = {layer: _RoutingRecorder(family, layer, places) for layer in layers}
    last: list[Tensor] = []
    with ExitStack() as hooks:
        for recorder in recorders.values():
            hooks.enter_context(recorder.recording(model))
        decoder = text_decoder(model)
        hook = decoder.register_forward_hook(lambda module, args, output: last.append(output.last_hidden_state))
        hooks.callback(hook.remove)
        output = model(**model_inputs(model, request), output_hidden_states=True, use_cache=False)
    hidden = output.decoder_hidden_states if model.config.is_encoder_decoder else output.hidden_states
    width = last[0].shape[-1]
    states = torch.stack([_one_stream(state[0].float(), width).cpu() for state in (*hidden[:-1], last[0])])
    predicting = places.decoder - 1 if model.config.is_encoder_decoder else places.decoder
    return TokenTrace(predicting, states, {layer: recorder.routing() for layer, recorder in recorders.items()})


def _one_stream(states: Tensor, width: int) -> Tensor:
    """Hidden states (n, p): of a model with several residual streams, (n, streams, p) or (n, streams p), their mean."""
    return states.reshape(len(states), -1, width).mean(1)


@dataclass(frozen=True, eq=False)
class _Places:
    """Which tokens of the text the rows of an encoder's layers are, and those of a decoder's."""

    encoder: Tensor
    decoder: Tensor

    def of_rows(self, rows: int, name: str) -> Tensor:
        """The tokens of a layer with so many rows, by the name of its module."""
        return (self.encoder if name.startswith("encoder.") else self.decoder)[:rows]


def _places(model: Any, request: Request) -> _Places:
    length = len(request.context) + len(request.continuation)
    if not model.config.is_encoder_decoder:
        everything = torch.arange(length)
        return _Places(everything, everything)
    context, target = split_context(request, length)
    first = length - len(target)
    # The encoder's end token belongs to no token of the text; the decoder's inputs are one behind what it predicts.
    encoder = torch.arange(len(with_end_token(model, context)))
    encoder[len(context) :] = -1
    return _Places(encoder, torch.arange(first, length))


class _RoutingRecorder:
    """Records the routing of one layer."""

    def __init__(self, family: Family, layer: int, places: _Places) -> None:
        self._family, self._layer, self._places = family, layer, places
        self._experts: Tensor | None = None
        self._log_gates: Tensor | None = None

    @contextmanager
    def recording(self, model: Any) -> Iterator[None]:
        """Record while the block runs."""
        experts = self._family.experts_module(model, self._layer)
        hooks = [experts.register_forward_pre_hook(self._record_experts, with_kwargs=True)]
        if self._family.module_router:
            router = self._family.router_module(model, self._layer)
            hooks.append(router.register_forward_pre_hook(self._record_gates, with_kwargs=True))
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def _record_gates(self, router: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        hidden = next(iter((*args, *kwargs.values()))).flatten(0, -2).float()
        logits = hidden @ router.get_parameter("weight").float().T
        bias = getattr(router, "bias", None)
        if torch.is_tensor(bias) and bias.shape == logits.shape[1:]:
            logits = logits + bias.float()
        self._log_gates = logits.log_softmax(dim=-1).cpu()

    def _record_experts(self, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        inputs = [*args, *kwargs.values()]
        if len(inputs) < 2:
            raise CheckpointError(
                f"{type(module).__name__} does not receive the selected experts of each token: "
                f"family {self._family.name!r} cannot be traced"
            )
        self._experts = inputs[1].cpu()

    def routing(self) -> LayerRouting:
        """Return what was recorded, the rows of the text's own tokens."""
        assert self._experts is not None
        count, gates = self._family.shape(self._family.config).num_experts, self._log_gates
        if gates is not None and gates.shape[1] != count:
            gates = None
        experts = selected_experts(self._experts, count, gates)
        tokens = self._places.of_rows(len(experts), self._family.module_name(self._layer))
        own = tokens >= 0
        return LayerRouting(tokens[own], experts[own], count, None if gates is None else gates[own])


def selected_experts(index: Tensor, num_experts: int, log_gates: Tensor | None = None) -> Tensor:
    """Return each token's experts, that of the largest gate first.

    Parameters
    ----------
    index
        (T, top_k) indices, of which N stands for no expert, or (T, 1, N) marks as the Switch family passes them.
    num_experts
        N.
    log_gates
        (T, N): log-softmax of the router's logits; without them the experts stay in the order of `index`.

    Returns
    -------
    torch.Tensor
        (T, top_k) int64, with -1 for no expert.
    """
    if index.dim() == 3:
        marks = index[:, 0].bool()
        return torch.where(marks.any(1), marks.int().argmax(1), -1)[:, None]
    index = index.long()
    missing = (index < 0) | (index >= num_experts)
    experts = index.masked_fill(missing, -1)
    if log_gates is None:
        return experts
    gates = log_gates.gather(1, index.clamp(0, num_experts - 1)).masked_fill(missing, -torch.inf)
    return experts.gather(1, gates.argsort(dim=1, descending=True, stable=True))
