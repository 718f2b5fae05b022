"""Logits of hidden states: those of the model's own forward, for every architecture."""

from __future__ import annotations

import pytest
import torch

from resmoe_lab.experts import described_types
from resmoe_lab.scoring.decoder import decoder_of
from resmoe_lab.scoring.readout import logits_of

from ..architectures import tiny_model

TOKENS = torch.randint(3, 90, (1, 12), generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("model_type", described_types())
@torch.no_grad()
def test_logits_are_those_of_the_models_own_forward(model_type: str) -> None:
    model = tiny_model(model_type)
    expected = model(input_ids=TOKENS, use_cache=False).logits
    states = decoder_of(model)(input_ids=TOKENS, use_cache=False).last_hidden_state[0]
    torch.testing.assert_close(logits_of(model, states), expected[0])
    assert torch.equal(model(input_ids=TOKENS, use_cache=False).logits, expected), "the decoder is as it was"


@torch.no_grad()
def test_an_encoder_decoder_scales_where_its_embeddings_are_tied() -> None:
    from transformers import SwitchTransformersConfig, SwitchTransformersForConditionalGeneration

    sizes = {"vocab_size": 96, "d_model": 32, "d_ff": 16, "d_kv": 8, "num_heads": 2, "num_layers": 2, "num_experts": 2}
    config = SwitchTransformersConfig(**sizes, tie_word_embeddings=True, decoder_start_token_id=0)
    model = SwitchTransformersForConditionalGeneration(config).eval()
    inputs = {"input_ids": TOKENS, "decoder_input_ids": TOKENS[:, :7], "use_cache": False}
    output = model(**inputs, output_hidden_states=True)
    states = output.decoder_hidden_states[-1][0]
    torch.testing.assert_close(logits_of(model, states), output.logits[0])
    unscaled = model.get_output_embeddings()(states)
    assert not torch.allclose(unscaled, output.logits[0]), "else this would test nothing"
