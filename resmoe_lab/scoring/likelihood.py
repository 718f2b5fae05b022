"""Log-likelihoods of continuations, from which every score is computed."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any, Protocol

import torch

from .._core.errors import CheckpointError, WeightError
from .._core.progress import Progress, Tick
from .decoder import decoder_of
from .padding import pad_rows
from .prefix_sharing import PackedRow, batch_inputs, has_full_attention, pack_requests
from .readout import logits_of

#: One token in so many of a context goes to an encoder, the rest to its decoder.
_ENCODER_SHARE = 4
#: About how many tokens go through the model at once.
BATCH_TOKENS = 8192
#: Fewer shared tokens than this are not worth a mask.
_MIN_SHARED = 4


@dataclass(frozen=True)
class Request:
    """Continuation tokens whose likelihood is wanted, given the context tokens before them (at least one)."""

    context: tuple[int, ...]
    continuation: tuple[int, ...]


class PartialStore(Protocol):
    """Stores the results of an evaluation that is not finished."""

    def load(self) -> Mapping[int, Likelihood]:
        """Return the stored results by the number of the request."""

    def save(self, results: Mapping[int, Likelihood]) -> None:
        """Store all results so far."""


@dataclass(frozen=True)
class Likelihood:
    """Summed log-probability of a continuation, and whether greedy decoding would have written it."""

    log_probability: float
    greedy: bool


def encode_request(tokenizer: Any, context: str, continuation: str) -> Request:
    """Encode a text pair so that the continuation keeps the tokens it has in the whole text.

    A space at the context's end moves to the continuation, where byte-pair tokens have it. The published code encodes
    the continuation alone and drops its first token, which is right only where a tokenizer begins every text with a
    token of its own; here nothing is dropped.

    Raises
    ------
    CheckpointError
        If there is no context, and the tokenizer has no token to begin with.
    """
    stripped = context.rstrip()
    continuation = context[len(stripped) :] + continuation
    before = tokenizer(stripped)["input_ids"] if stripped else []
    whole = tokenizer(stripped + continuation)["input_ids"]
    if not before:
        start = start_token(tokenizer)
        before, whole = [start], whole if whole[:1] == [start] else [start, *whole]
    if len(whole) <= len(before):  # the continuation merges into the context's last token
        whole = before + tokenizer(continuation, add_special_tokens=False)["input_ids"]
    return Request(tuple(whole[: len(before)]), tuple(whole[len(before) :]))


def start_token(tokenizer: Any) -> int:
    """Return the token that precedes every text: the tokenizer's ``<s>``, or its end token where it has none.

    Raises
    ------
    CheckpointError
        If it has neither.
    """
    for token in (tokenizer.bos_token_id, tokenizer.eos_token_id):
        if token is not None:
            return int(token)
    raise CheckpointError(
        "the tokenizer has neither a first nor a last token (bos_token, eos_token), expected one to begin texts with: "
        "set it in tokenizer_config.json"
    )


@torch.no_grad()
def likelihoods(
    model: Any,
    requests: Sequence[Request],
    *,
    window: int,
    task: str,
    progress: Progress,
    partial: PartialStore | None = None,
) -> list[Likelihood]:
    """Compute the log-likelihood of every request.

    Parameters
    ----------
    model
        A causal or encoder-decoder language model of transformers; an encoder reads the context, its decoder predicts
        the continuation.
    requests
        What to score. Neighbours with a common prefix are scored together.
    window
        Longest input; longer ones lose tokens on the left of their context.
    task
        Name for the progress ticks.
    progress
        Called after every batch.
    partial
        Where results are stored until all are computed; those that are stored already are not computed again.

    Returns
    -------
    list of Likelihood
        In the order of the requests.

    Raises
    ------
    WeightError
        If a log-probability is not a number.
    """
    begun = time.monotonic()
    groups = _groups(model, requests, window)
    order = sorted(groups, key=lambda group: -_length(requests, group, window))
    results = dict(partial.load()) if partial is not None else {}
    progress(Tick(task, len(results), len(requests)))
    num_stored = len(results)
    for batch in _batches(order, requests, window):
        indices = [i for group in batch for i in group]
        if all(i in results for i in indices):
            continue
        scored = _score_batch(model, [[requests[i] for i in group] for group in batch], window)
        if any(math.isnan(result.log_probability) for result in scored):
            raise WeightError(f"the model gives NaN on task {task}, expected numbers: its weights are damaged")
        results |= dict(zip(indices, scored, strict=True))
        if partial is not None:
            partial.save(results)
        rate = (len(results) - num_stored) / (time.monotonic() - begun)
        left = (len(requests) - len(results)) / rate if rate else math.nan
        progress(Tick(task, len(results), len(requests), {"seconds_left": round(left, 1)}))
    return [results[i] for i in range(len(requests))]


def _groups(model: Any, requests: Sequence[Request], window: int) -> list[list[int]]:
    """Group the numbers of the requests that go into one row: neighbours that share most of a context."""
    groups: list[list[int]] = []
    can_pack = not model.config.is_encoder_decoder and has_full_attention(model.config)
    for i, request in enumerate(requests):
        shares = can_pack and i > 0 and _share_prefix(requests[i - 1].context, request.context)
        if shares and sum(len(requests[k].context + requests[k].continuation) for k in (*groups[-1], i)) <= window:
            groups[-1].append(i)
        else:
            groups.append([i])
    return groups


def _share_prefix(first: Sequence[int], second: Sequence[int]) -> bool:
    pairs = zip(first, second, strict=False)
    shared = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
    return shared >= max(_MIN_SHARED, min(len(first), len(second)) / 2)


def _length(requests: Sequence[Request], group: list[int], window: int) -> int:
    return min(window, sum(len(requests[i].context) + len(requests[i].continuation) for i in group))


def _batches(order: list[list[int]], requests: Sequence[Request], window: int) -> Iterator[list[list[int]]]:
    """Cut groups that are sorted by length into batches of about as many tokens each."""
    begin = 0
    while begin < len(order):
        end = begin + max(1, BATCH_TOKENS // _length(requests, order[begin], window))
        yield order[begin:end]
        begin = end


def _score_batch(model: Any, groups: list[list[Request]], window: int) -> list[Likelihood]:
    if model.config.is_encoder_decoder:
        return _score_encoder_decoder(model, [request for group in groups for request in group], window)
    rows = [pack_requests([_truncate(request, window) for request in group]) for group in groups]
    return _score_decoder(model, rows)


def _truncate(request: Request, window: int) -> tuple[tuple[int, ...], int]:
    """Return a request's last tokens, as many as the window holds, and how many of them are predicted."""
    tokens = (request.context + request.continuation)[-window - 1 :]
    return tokens, min(len(request.continuation), len(tokens) - 1)


def _score_decoder(model: Any, rows: Sequence[PackedRow]) -> list[Likelihood]:
    """Score one batch with a decoder."""
    inputs = batch_inputs(rows, device=model.device, dtype=model.dtype)
    hidden = decoder_of(model)(**inputs, use_cache=False).last_hidden_state
    results = []
    for states, row in zip(hidden, rows, strict=True):
        for branch in row.branches:
            # The vocabulary's logits are computed only where a continuation is.
            logits = logits_of(model, states[list(branch.indices)]).float()
            results.append(_likelihood(logits, torch.tensor(branch.targets, device=logits.device)))
    return results


def _score_encoder_decoder(model: Any, requests: Sequence[Request], window: int) -> list[Likelihood]:
    """Score one batch with an encoder-decoder, whose decoder is forced through the end of the context first."""
    pairs = [split_context(request, window) for request in requests]
    inputs = [with_end_token(model, context) for context, _ in pairs]
    tokens, targets = pad_rows(inputs, model.device), pad_rows([target for _, target in pairs], model.device)
    mask = pad_rows([[1] * len(row) for row in inputs], model.device)
    options = {"decoder_input_ids": shift_right(model, targets), "use_cache": False}
    logits = model(input_ids=tokens, attention_mask=mask, **options).logits
    results = []
    for i, (request, (_, target)) in enumerate(zip(requests, pairs, strict=True)):
        predicted = slice(len(target) - min(len(request.continuation), window), len(target))
        results.append(_likelihood(logits[i, predicted].float(), targets[i, predicted]))
    return results


def split_context(request: Request, window: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Split a request into an encoder's tokens and its decoder's: the rest of the context, then the continuation.

    Any split asks for the same probability; but a decoder predicts best where it has seen the last words itself:
    cross-attention, which knows no positions, finds them only after long training.
    """
    context = request.context[-window:]
    cut = max(1, len(context) // _ENCODER_SHARE)
    return context[:cut], (*context[cut:], *request.continuation[-window:])


def model_inputs(model: Any, request: Request) -> dict[str, torch.Tensor]:
    """Return a model's inputs for one request, as a batch of one."""
    if model.config.is_encoder_decoder:
        context, target = split_context(request, len(request.context) + len(request.continuation))
        decoder_inputs = shift_right(model, torch.tensor([target], device=model.device))
        inputs = torch.tensor([with_end_token(model, context)], device=model.device)
        return {"input_ids": inputs, "decoder_input_ids": decoder_inputs}
    return {"input_ids": torch.tensor([[*request.context, *request.continuation]], device=model.device)}


def with_end_token(model: Any, context: tuple[int, ...]) -> tuple[int, ...]:
    """Return an encoder's input: the context and an end token, as the T5 family is trained.

    Cross-attention knows no positions, so that token is how a decoder finds where the context ends.
    """
    end = model.config.eos_token_id
    return context if end is None or context[-1:] == (end,) else (*context, end)


def shift_right(model: Any, tokens: torch.Tensor) -> torch.Tensor:
    """Return a decoder's inputs for predicting (B, T) tokens: its start token, and all of them but the last."""
    start = tokens.new_full((len(tokens), 1), model.config.decoder_start_token_id)
    return torch.cat([start, tokens[:, :-1]], dim=1)


def _likelihood(logits: torch.Tensor, targets: torch.Tensor) -> Likelihood:
    log_probabilities = logits.log_softmax(-1).gather(1, targets[:, None])
    return Likelihood(float(log_probabilities.double().sum()), bool((logits.argmax(-1) == targets).all()))


def model_window(model: Any, tokenizer: Any) -> int:
    """Return the longest input that model and tokenizer are made for."""
    longest = getattr(model.config, "max_position_embeddings", 2048)
    return int(min(longest, tokenizer.model_max_length, 2048))
