"""Scores of an encoder-decoder: the encoder reads the context, the decoder tells the continuation."""

import pytest
import torch
from transformers import SwitchTransformersConfig, SwitchTransformersForConditionalGeneration

from resmoe_lab._core.progress import silent
from resmoe_lab.scoring.likelihood import Request, likelihoods, split_context
from resmoe_lab.scoring.routing import routing_shares
from resmoe_lab.scoring.zeroshot import text_windows
from resmoe_lab.training.tokenizer import train_tokenizer

END = 39


@pytest.fixture(scope="module")
def model() -> SwitchTransformersForConditionalGeneration:
    torch.manual_seed(0)
    config = SwitchTransformersConfig(
        vocab_size=40,
        d_model=16,
        d_kv=8,
        d_ff=24,
        num_layers=2,
        num_sparse_encoder_layers=1,
        num_decoder_layers=2,
        num_sparse_decoder_layers=1,
        num_heads=2,
        num_experts=4,
        pad_token_id=0,
        eos_token_id=END,
        decoder_start_token_id=0,
    )
    return SwitchTransformersForConditionalGeneration(config).eval()


REQUESTS = [Request((1, 5, 6, 7), (8, 9)), Request((1,), (3, 4, 5, 6, 7)), Request((1, 2, 3, 4, 5, 6), (7,))]


def test_a_likelihood_is_the_models_own_loss(model: SwitchTransformersForConditionalGeneration) -> None:
    """Padding of a batch changes nothing, and the loss that transformers computes is the mean we sum up."""
    results = likelihoods(model, REQUESTS, window=64, task="t", progress=silent)
    for request, result in zip(REQUESTS, results, strict=True):
        source, target = split_context(request, 64)
        tokens, count = torch.tensor([target]), len(request.continuation)
        labels = tokens.clone()
        labels[:, :-count] = -100  # what the decoder only hears
        start = torch.zeros(1, 1, dtype=torch.int64)
        with torch.no_grad():
            heard = torch.cat([start, tokens[:, :-1]], dim=1)
            output = model(input_ids=torch.tensor([[*source, END]]), decoder_input_ids=heard, labels=labels)
        assert result.log_probability == pytest.approx(-float(output.loss) * count, rel=1e-4)
        assert result.greedy == (output.logits.argmax(-1) == tokens)[:, -count:].all().item()


def test_the_load_counts_encoder_and_decoder(model: SwitchTransformersForConditionalGeneration) -> None:
    shares = routing_shares(model, REQUESTS, layers=[1, 3], top_k=1)
    assert list(shares.layer.unique()) == [1, 3]
    assert shares.groupby("layer").share.sum().tolist() == pytest.approx([1, 1])
    token_counts = {layer: shares[shares.layer == layer].share.to_numpy() * n for layer, n in ((1, 6), (3, 16))}
    for counts in token_counts.values():  # 3 tokens and 3 ends were read, 8 heard and 8 told, each by one expert
        assert counts == pytest.approx(counts.round(), abs=1e-6)


def test_half_of_a_window_is_read_and_half_is_told() -> None:
    tokenizer = train_tokenizer(["some words of the story"] * 5, vocab_size=300, max_length=32)
    text = "some words of the story " * 9
    tokens = tokenizer(text)["input_ids"]
    windows = text_windows(tokenizer, text, 8, halves=True)
    assert [token for window in windows for token in (*window.context[1:], *window.continuation)] == tokens[1:]
    for window in windows:
        assert window.context[0] == tokens[0]
        assert len(window.continuation) - len(window.context[1:]) in (0, 1)
