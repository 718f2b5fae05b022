"""Likelihoods against one plain forward pass per request."""

import math

import pytest
import torch

from resmoe_lab._core.errors import CheckpointError
from resmoe_lab._core.progress import silent
from resmoe_lab.checkpoint import Checkpoint
from resmoe_lab.runtime import load_pair
from resmoe_lab.scoring import likelihood
from resmoe_lab.scoring.likelihood import Request, encode_request, likelihoods
from resmoe_lab.scoring.zeroshot import text_windows

from ..experts import pico


def _plain(model: torch.nn.Module, request: Request) -> tuple[float, bool]:
    tokens = torch.tensor([request.context + request.continuation])
    logits = model(tokens).logits[0].double().log_softmax(-1)
    total, greedy = 0.0, True
    for place in range(len(request.context), tokens.shape[1]):
        total += float(logits[place - 1, tokens[0, place]])
        greedy &= int(logits[place - 1].argmax()) == int(tokens[0, place])
    return total, greedy


def test_batches_score_as_single_passes_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(likelihood, "BATCH_TOKENS", 40)
    model = pico.mixtral()
    generator = torch.Generator().manual_seed(0)
    requests = []
    for _ in range(30):
        lengths = torch.randint(1, 12, (2,), generator=generator).tolist()
        context, continuation = (tuple(torch.randint(0, 64, (n,), generator=generator).tolist()) for n in lengths)
        requests.append(Request(context, continuation))
    # A continuation that greedy decoding would write.
    with torch.no_grad():
        token = int(model(torch.tensor([[5, 6, 7]])).logits[0, -1].argmax())
    requests.append(Request((5, 6, 7), (token,)))
    results = likelihoods(model, requests, window=64, task="test", progress=silent)
    with torch.no_grad():
        expected = [_plain(model, request) for request in requests]
    for result, (log_probability, greedy) in zip(results, expected, strict=True):
        assert result.log_probability == pytest.approx(log_probability, rel=1e-4, abs=1e-4)
        assert result.greedy == greedy
    assert results[-1].greedy


def test_what_is_too_long_loses_its_left_end() -> None:
    model = pico.mixtral()
    long = Request(tuple(range(50)), (3, 4))
    [result] = likelihoods(model, [long], window=10, task="test", progress=silent)
    with torch.no_grad():
        expected, _ = _plain(model, Request(long.context[-9:], long.continuation))
    assert result.log_probability == pytest.approx(expected, rel=1e-4)


def test_a_trailing_space_moves_to_the_continuation(tiny: Checkpoint) -> None:
    _, tokenizer = load_pair(tiny)
    request = encode_request(tokenizer, "She put the ball in the ", "box.")
    assert list(request.context + request.continuation) == tokenizer("She put the ball in the box.")["input_ids"]
    assert tokenizer.decode(request.continuation) == " box."


def test_windows_cover_every_token_once(tiny: Checkpoint) -> None:
    _, tokenizer = load_pair(tiny)
    text = "One morning Anna had a red ball. " * 30
    windows = text_windows(tokenizer, text, 64)
    assert all(window.context == (tokenizer.bos_token_id,) for window in windows)
    assert [token for window in windows for token in window.continuation] == tokenizer(text)["input_ids"][1:]
    assert max(len(window.continuation) for window in windows) == 64
    assert math.ceil(len(tokenizer(text)["input_ids"][1:]) / 64) == len(windows)


class _Plain:
    """A tokenizer of letters without a first or padding token."""

    bos_token_id = eos_token_id = pad_token_id = None

    def __call__(self, text: str, **options: object) -> dict:
        return {"input_ids": [ord(letter) for letter in text]}


def test_a_tokenizer_without_a_first_token_drops_nothing() -> None:
    assert encode_request(_Plain(), "ab", " cd") == Request((97, 98), (32, 99, 100))


def test_no_context_and_no_first_token_is_refused() -> None:
    with pytest.raises(CheckpointError, match="neither a first nor a last token"):
        encode_request(_Plain(), "", "abc")
    ended = _Plain()
    ended.eos_token_id = 0  # type: ignore[assignment]  # a token that ends texts begins them too
    assert encode_request(ended, "", "abc") == Request((0,), (97, 98, 99))
