"""Log-likelihoods of continuations: the one thing that every score is made of."""

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
from .prefix_sharing import Row, batch_inputs, lay_out, sees_everything

#: One token in so many of a context is read by an encoder; its decoder hears the rest.
_READ = 4
#: About how many tokens go through the model at once.
BATCH_TOKENS = 8192
#: Fewer shared tokens than this are not worth a mask.
_LEAST_SHARED = 4


@dataclass(frozen=True)
class Request:
    """Tokens whose likelihood is asked for, given the tokens before them (at least one)."""

    context: tuple[int, ...]
    continuation: tuple[int, ...]


class Partial(Protocol):
    """Keeps the results of an evaluation that is not finished."""

    def load(self) -> Mapping[int, Likelihood]:
        """What has been kept, by the number of the request."""

    def save(self, results: Mapping[int, Likelihood]) -> None:
        """Keep all results so far."""


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
    if len(whole) <= len(before):  # the continuation melts into the context's last token
        whole = before + tokenizer(continuation, add_special_tokens=False)["input_ids"]
    return Request(tuple(whole[: len(before)]), tuple(whole[len(before) :]))


def start_token(tokenizer: Any) -> int:
    """The token that a text begins behind: the tokenizer's ``<s>``, or its end token where it has none.

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
    partial: Partial | None = None,
) -> list[Likelihood]:
    """Score every request.

    Parameters
    ----------
    model
        A causal or encoder-decoder language model of transformers; an encoder reads the context, its decoder tells
        the continuation.
    requests
        What to score. Neighbours that begin alike are scored together.
    window
        Longest input; what is longer loses tokens on the left of its context.
    task
        Name for the progress ticks.
    progress
        Told after every batch.
    partial
        Where results are kept while the rest is still to be done; those that are there are not computed again.

    Raises
    ------
    WeightError
        If a log-probability is not a number.

    Returns
    -------
    list of Likelihood
        In the order of the requests.
    """
    begun = time.monotonic()
    groups = _groups(model, requests, window)
    order = sorted(groups, key=lambda group: -_length(requests, group, window))
    results = dict(partial.load()) if partial is not None else {}
    progress(Tick(task, len(results), len(requests)))
    found = len(results)
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
        rate = (len(results) - found) / (time.monotonic() - begun)
        left = (len(requests) - len(results)) / rate if rate else math.nan
        progress(Tick(task, len(results), len(requests), {"seconds_left": round(left, 1)}))
    return [results[i] for i in range(len(requests))]


def _groups(model: Any, requests: Sequence[Request], window: int) -> list[list[int]]:
    """Numbers of the requests that go into one row: neighbours that share most of a context."""
    groups: list[list[int]] = []
    together = not model.config.is_encoder_decoder and sees_everything(model.config)
    for i, request in enumerate(requests):
        alike = together and i > 0 and _alike(requests[i - 1].context, request.context)
        if alike and sum(len(requests[k].context + requests[k].continuation) for k in (*groups[-1], i)) <= window:
            groups[-1].append(i)
        else:
            groups.append([i])
    return groups


def _alike(first: Sequence[int], second: Sequence[int]) -> bool:
    pairs = zip(first, second, strict=False)
    shared = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
    return shared >= max(_LEAST_SHARED, min(len(first), len(second)) / 2)


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
        return _score_pairs(model, [request for group in groups for request in group], window)
    return _score_rows(model, [lay_out([_cut(request, window) for request in group]) for group in groups])


def _cut(request: Request, window: int) -> tuple[tuple[int, ...], int]:
    """A request's tokens, as many as the window holds, and how many of them are predicted."""
    tokens = (request.context + request.continuation)[-window - 1 :]
    return tokens, min(len(request.continuation), len(tokens) - 1)


def _score_rows(model: Any, rows: Sequence[Row]) -> list[Likelihood]:
    """Score one batch with a decoder."""
    inputs = batch_inputs(rows, device=model.device, dtype=model.dtype)
    hidden = decoder_of(model)(**inputs, use_cache=False).last_hidden_state
    results = []
    for states, row in zip(hidden, rows, strict=True):
        for branch in row.branches:
            # The vocabulary's logits are computed only where a continuation is.
            logits = model.get_output_embeddings()(states[list(branch.places)]).float()
            results.append(_likelihood(logits, torch.tensor(branch.targets, device=logits.device)))
    return results


def decoder_of(model: Any) -> Any:
    """The module of a decoder-only model that holds its layers (Llama 4 calls itself its decoder)."""
    decoder = model.get_decoder()
    return decoder if hasattr(decoder, "layers") else decoder.model


def _score_pairs(model: Any, requests: Sequence[Request], window: int) -> list[Likelihood]:
    """Score one batch with an encoder-decoder, whose decoder is told the end of the context before it goes on."""
    pairs = [split_context(request, window) for request in requests]
    contexts = [torch.tensor(closed(model, read)) for read, _ in pairs]
    targets = [torch.tensor(told) for _, told in pairs]
    read, seen, told = (
        torch.nn.utils.rnn.pad_sequence(rows, batch_first=True).to(model.device)
        for rows in (contexts, [torch.ones_like(row) for row in contexts], targets)
    )
    logits = model(input_ids=read, attention_mask=seen, decoder_input_ids=shifted(model, told), use_cache=False).logits
    results = []
    for i, (request, row) in enumerate(zip(requests, targets, strict=True)):
        place = slice(len(row) - min(len(request.continuation), window), len(row))
        results.append(_likelihood(logits[i, place].float(), told[i, place]))
    return results


def split_context(request: Request, window: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """What an encoder reads of a request, and what its decoder tells: the rest of the context, then what is scored.

    Whatever the split, the same probability is asked for; but a text goes on most surely where its last words are
    heard, and cross-attention, which knows no positions, finds them only after long training.
    """
    context = request.context[-window:]
    cut = max(1, len(context) // _READ)
    return context[:cut], (*context[cut:], *request.continuation[-window:])


def model_inputs(model: Any, request: Request) -> dict[str, torch.Tensor]:
    """Everything of one request that the model reads, as a batch of one."""
    if model.config.is_encoder_decoder:
        read, told = split_context(request, len(request.context) + len(request.continuation))
        heard = shifted(model, torch.tensor([told], device=model.device))
        return {"input_ids": torch.tensor([closed(model, read)], device=model.device), "decoder_input_ids": heard}
    return {"input_ids": torch.tensor([[*request.context, *request.continuation]], device=model.device)}


def closed(model: Any, context: tuple[int, ...]) -> tuple[int, ...]:
    """What an encoder reads: the context and an end token, as the T5 family is trained.

    Cross-attention knows no positions, so that token is how a decoder finds where the context ends.
    """
    end = model.config.eos_token_id
    return context if end is None or context[-1:] == (end,) else (*context, end)


def shifted(model: Any, tokens: torch.Tensor) -> torch.Tensor:
    """What a decoder reads while it tells (B, T) tokens: its start token, and all of them but the last."""
    start = tokens.new_full((len(tokens), 1), model.config.decoder_start_token_id)
    return torch.cat([start, tokens[:, :-1]], dim=1)


def _likelihood(logits: torch.Tensor, targets: torch.Tensor) -> Likelihood:
    chosen = logits.log_softmax(-1).gather(1, targets[:, None])
    return Likelihood(float(chosen.double().sum()), bool((logits.argmax(-1) == targets).all()))


def model_window(model: Any, tokenizer: Any) -> int:
    """The longest input that model and tokenizer are made for."""
    longest = getattr(model.config, "max_position_embeddings", 2048)
    return int(min(longest, tokenizer.model_max_length, 2048))
