"""Traces of tokens: hidden states and routing as the model itself computes them, for every architecture."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from resmoe_lab._core.errors import CheckpointError
from resmoe_lab.checkpoint import Checkpoint, open_checkpoint
from resmoe_lab.experts import described_types, family_of, moe_layers
from resmoe_lab.scoring.decoder import final_norm, text_decoder
from resmoe_lab.scoring.traces import selected_experts, token_request, trace_tokens

from ..architectures import tiny_model
from ..experts import pico

#: Routers that are more than a matrix.
NO_MATRIX = {"inkling_text", "zaya"}
TOKENS = [int(token) for token in torch.randint(3, 60, (12,), generator=torch.Generator().manual_seed(0))]


@pytest.mark.parametrize("model_type", described_types())
@torch.no_grad()
def test_the_last_norm_is_found(model_type: str) -> None:
    model = tiny_model(model_type)
    given = []
    hook = final_norm(model).register_forward_hook(lambda module, args, output: given.append(output))
    hidden = text_decoder(model)(input_ids=torch.tensor([TOKENS]), use_cache=False).last_hidden_state
    hook.remove()
    assert torch.equal(given[-1], hidden)


@pytest.mark.parametrize("model_type", [name for name in described_types() if name != "gpt_oss"])
@torch.no_grad()
def test_every_architecture_is_traced(model_type: str, tmp_path: Path) -> None:
    model = tiny_model(model_type)
    model.save_pretrained(tmp_path)
    checkpoint = open_checkpoint(tmp_path)
    layers = moe_layers(checkpoint)
    trace = trace_tokens(model, family_of(checkpoint), token_request(model, TOKENS), layers=layers)
    hidden = text_decoder(model)(input_ids=torch.tensor([TOKENS]), use_cache=False).last_hidden_state
    assert torch.equal(trace.states[-1], hidden[0])
    assert trace.predicting.tolist() == list(range(len(TOKENS)))
    assert list(trace.routing) == layers
    for routing in trace.routing.values():
        assert routing.tokens.tolist() == list(range(len(TOKENS)))
        assert routing.experts.min() >= 0
        assert routing.experts.max() < routing.num_experts
        if model_type in NO_MATRIX:
            assert routing.log_gates is None
        else:
            assert routing.log_gates is not None
            torch.testing.assert_close(routing.log_gates.exp().sum(1), torch.ones(len(TOKENS)))


@torch.no_grad()
def test_routing_is_that_of_the_routers_logits(pico_checkpoint: Checkpoint) -> None:
    model = AutoModelForCausalLM.from_pretrained(pico_checkpoint.folder).eval()
    layers = moe_layers(pico_checkpoint)
    trace = trace_tokens(model, family_of(pico_checkpoint), token_request(model, TOKENS), layers=layers)
    output = model(input_ids=torch.tensor([TOKENS]), output_router_logits=True, use_cache=False)
    for layer, logits in zip(layers, output.router_logits, strict=True):
        routing = trace.routing[layer]
        assert routing.log_gates is not None
        torch.testing.assert_close(routing.log_gates.exp(), logits.float().softmax(-1))
        assert torch.equal(routing.experts, logits.topk(2).indices)


@torch.no_grad()
def test_an_encoder_decoder_is_traced_in_its_two_parts(tmp_path: Path) -> None:
    model = pico.switch_transformers()
    checkpoint = open_checkpoint(pico.save(model, tmp_path / "switch"))
    family, layers = family_of(checkpoint), moe_layers(checkpoint)
    request = token_request(model, TOKENS[:11])
    trace = trace_tokens(model, family, request, layers=layers)
    # A quarter of what stands before the last token is read, the rest is predicted.
    assert trace.predicting.tolist() == [1, 2, 3, 4, 5, 6, 7, 8, 9]
    encoder = [layer for layer in layers if family.module_name(layer).startswith("encoder")]
    assert encoder
    assert len(encoder) < len(layers)
    for layer in layers:
        expected = [0, 1] if layer in encoder else list(range(2, 11))
        assert trace.routing[layer].tokens.tolist() == expected


def test_experts_are_ordered_by_gate_and_none_is_minus_one() -> None:
    log_gates = torch.tensor([[0.1, 0.6, 0.3], [0.2, 0.3, 0.5]]).log()
    assert selected_experts(torch.tensor([[0, 1], [3, 2]]), 3, log_gates).tolist() == [[1, 0], [2, -1]]
    marks = torch.tensor([[[0, 0, 1]], [[0, 0, 0]]])
    assert selected_experts(marks, 3, log_gates).tolist() == [[2], [-1]]


def test_a_family_without_indices_of_experts_is_refused(tmp_path: Path) -> None:
    model = pico.llama4_text()
    checkpoint = open_checkpoint(pico.save(model, tmp_path / "llama4"))
    with pytest.raises(CheckpointError, match="does not receive the selected experts"):
        trace_tokens(model, family_of(checkpoint), token_request(model, TOKENS), layers=moe_layers(checkpoint))
