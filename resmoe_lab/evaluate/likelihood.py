"""Log-likelihoods of continuations: the one thing that every score is made of."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from .._core.errors import WeightError
from .._core.progress import Progress, Tick

#: Tokens of a context that a decoder hears at most; its encoder reads the rest.
_HEARD = 16
#: About how many tokens go through the model at once.
BATCH_TOKENS = 8192


@dataclass(frozen=True)
class Request:
    """Tokens whose likelihood is asked for, given the tokens before them (at least one)."""

    context: tuple[int, ...]
    continuation: tuple[int, ...]


@dataclass(frozen=True)
class Likelihood:
    """Summed log-probability of a continuation, and whether greedy decoding would have written it."""

    log_probability: float
    greedy: bool


def encode_request(tokenizer: Any, context: str, continuation: str) -> Request:
    """Encode a text pair so that the continuation keeps the tokens it has in the whole text.

    A space at the context's end moves to the continuation, where byte-pair tokens have it.
    """
    stripped = context.rstrip()
    continuation = context[len(stripped) :] + continuation
    before = tokenizer(stripped)["input_ids"]
    whole = tokenizer(stripped + continuation)["input_ids"]
    return Request(tuple(whole[: len(before)]), tuple(whole[len(before) :]))


@torch.no_grad()
def likelihoods(
    model: Any, requests: Sequence[Request], *, window: int, task: str, progress: Progress
) -> list[Likelihood]:
    """Score every request.

    Parameters
    ----------
    model
        A causal or encoder-decoder language model of transformers; an encoder reads the context, its decoder tells
        the continuation.
    requests
        What to score.
    window
        Longest input; what is longer loses tokens on the left of its context.
    task
        Name for the progress ticks.
    progress
        Told after every batch.

    Raises
    ------
    WeightError
        If a log-probability is not a number.

    Returns
    -------
    list of Likelihood
        In the order of the requests.
    """
    order = sorted(range(len(requests)), key=lambda i: -len(requests[i].context) - len(requests[i].continuation))
    results: dict[int, Likelihood] = {}
    score = _score_pairs if model.config.is_encoder_decoder else _score
    progress(Tick(task, 0, len(requests)))
    while len(results) < len(requests):
        first = requests[order[len(results)]]
        length = min(window, len(first.context) + len(first.continuation))
        batch = order[len(results) : len(results) + max(1, BATCH_TOKENS // length)]
        scored = score(model, [requests[i] for i in batch], window)
        if any(math.isnan(result.log_probability) for result in scored):
            raise WeightError(f"the model gives NaN on task {task}, expected numbers: its weights are damaged")
        results |= dict(zip(batch, scored, strict=True))
        progress(Tick(task, len(results), len(requests)))
    return [results[i] for i in range(len(requests))]


def _score(model: Any, requests: Sequence[Request], window: int) -> list[Likelihood]:
    """Score one batch, padded on the right, where a causal model cannot see the padding."""
    rows = [torch.tensor((request.context + request.continuation)[-window - 1 :]) for request in requests]
    tokens = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True).to(model.device)
    hidden = model.get_decoder()(input_ids=tokens[:, :-1], use_cache=False).last_hidden_state
    results = []
    for i, (request, row) in enumerate(zip(requests, rows, strict=True)):
        # The vocabulary's logits are computed only where a continuation is.
        count = min(len(request.continuation), len(row) - 1)
        place = slice(len(row) - 1 - count, len(row) - 1)
        targets = tokens[i, place.start + 1 : place.stop + 1]
        logits = model.get_output_embeddings()(hidden[i, place]).float()
        results.append(_likelihood(logits, targets))
    return results


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
    """What an encoder reads of a request, and what its decoder tells: the context's last tokens, then what is scored.

    By the chain rule the split decides no probability, only who has to remember what: a decoder that hears the last
    words goes on from them, as it was trained to.
    """
    context = request.context[-window:]
    heard = min(_HEARD, len(context) // 2)
    cut = len(context) - heard
    return context[:cut], (*context[cut:], *request.continuation[-window:])


def model_inputs(model: Any, request: Request) -> dict[str, torch.Tensor]:
    """Everything of one request that the model reads, as a batch of one."""
    told = torch.tensor([request.continuation], device=model.device)
    if model.config.is_encoder_decoder:
        read = torch.tensor([closed(model, request.context)], device=model.device)
        return {"input_ids": read, "decoder_input_ids": shifted(model, told)}
    return {"input_ids": torch.cat([torch.tensor([request.context], device=model.device), told], dim=1)}


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
