"""Cached activations: the same logits, and the layers below really do nothing the second time."""

import errno
import os
from pathlib import Path

import pytest
import torch

from resmoe_lab.scoring import activation_cache
from resmoe_lab.scoring.activation_cache import cached_activations
from resmoe_lab.scoring.decoder import decoder_of

from ..experts import pico

DECODERS = [name for name in pico.PICO if name != "switch_transformers"]


@pytest.mark.parametrize("model_type", DECODERS)
@torch.no_grad()
def test_cached_activations_give_the_same_logits_with_other_experts_above(model_type: str, tmp_path: Path) -> None:
    model = pico.PICO[model_type]()
    first = len(decoder_of(model).layers) - 1
    tokens = torch.randint(0, 64, (2, 9), generator=torch.Generator().manual_seed(0))
    before = model(tokens, use_cache=False).logits
    with cached_activations(model, first=first, folder=tmp_path):
        assert torch.equal(model(tokens, use_cache=False).logits, before)
        changed = [weight for weight in decoder_of(model).layers[first].parameters() if weight.dim() > 1]
        for weight in changed:
            weight.mul_(1.1)
        calls: list[int] = []
        hook = decoder_of(model).layers[0].layer.register_forward_hook(lambda *_: calls.append(1))
        cached = model(tokens, use_cache=False).logits
        hook.remove()
        assert not calls
    again = model(tokens, use_cache=False).logits
    assert not torch.equal(again, before)
    torch.testing.assert_close(cached, again)


@torch.no_grad()
def test_another_batch_or_another_mask_is_another_state(tmp_path: Path) -> None:
    model = pico.mixtral()
    tokens = torch.randint(0, 64, (2, 9))
    with cached_activations(model, first=1, folder=tmp_path):
        model(tokens, use_cache=False)
        other = tokens.clone()
        other[0, 3] = (other[0, 3] + 1) % 64
        mask = torch.ones_like(tokens)
        mask[:, -2:] = 0
        cached = [model(other, use_cache=False).logits, model(tokens, attention_mask=mask, use_cache=False).logits]
        cached.append(model(tokens, position_ids=torch.arange(9)[None] + 3, use_cache=False).logits)
    expected = [model(other).logits, model(tokens, attention_mask=mask).logits]
    expected.append(model(tokens, position_ids=torch.arange(9)[None] + 3).logits)
    for ours, theirs in zip(cached, expected, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_generation_and_training_are_left_alone(tmp_path: Path) -> None:
    model = pico.mixtral()
    tokens = torch.randint(3, 64, (1, 5))
    options = {"max_new_tokens": 6, "do_sample": False, "pad_token_id": 0}
    before = model.generate(tokens, **options)
    with cached_activations(model, first=1, folder=tmp_path):
        for _ in range(2):
            assert torch.equal(model.generate(tokens, **options), before)
            model(tokens, labels=tokens, use_cache=False).loss.backward()
            assert model.model.embed_tokens.weight.grad.abs().sum() > 0
            model.zero_grad()


def test_layers_are_back_in_their_places_after_an_error(tmp_path: Path) -> None:
    model = pico.mixtral()
    layers = list(model.model.layers)
    with pytest.raises(KeyError), cached_activations(model, first=1, folder=tmp_path):
        raise KeyError
    assert list(model.model.layers) == layers
    assert not model.model._forward_pre_hooks


def test_an_encoder_decoder_runs_as_usual(tmp_path: Path) -> None:
    model = pico.switch_transformers()
    with cached_activations(model, first=1, folder=tmp_path):
        assert pico.logits(model, torch.randint(0, 64, (1, 5))).isfinite().all()


@torch.no_grad()
def test_what_finds_no_room_is_computed_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process takes the room between the look and the write."""

    def full(tensors: object, path: str) -> None:
        Path(path).write_bytes(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    model, tokens = pico.mixtral(), torch.randint(0, 64, (2, 9))
    expected = model(tokens, use_cache=False).logits
    monkeypatch.setattr(activation_cache, "save_file", full)
    with cached_activations(model, first=1, folder=tmp_path):
        for _ in range(2):
            assert torch.equal(model(tokens, use_cache=False).logits, expected)
    assert not list(tmp_path.iterdir())
