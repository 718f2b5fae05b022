"""Upcycling of a BERT, on a pico one with random weights: nothing is fetched."""

import pytest
import torch
from transformers import BertConfig, BertModel, DistilBertConfig

from resmoe_lab._core.errors import CheckpointError
from resmoe_lab.centers import center_method
from resmoe_lab.methods import METHODS, compress_layer, storage_ledger
from resmoe_lab.scoring.calibration import calibrate_batches
from resmoe_lab.training.classification import SentenceClassifier, batch_of
from resmoe_lab.training.upcycled_encoder import (
    EncoderUpcycling,
    UpcycledBert,
    let_experts_diverge,
    routed_blocks,
    upcycle_encoder,
)

RECIPE = EncoderUpcycling(moe_layers=2, num_experts=4)


def pico_bert(**changes: object) -> BertModel:
    torch.manual_seed(0)
    sizes = {"vocab_size": 60, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 3}
    sizes |= {"num_attention_heads": 2, "max_position_embeddings": 40, "initializer_range": 0.3}
    model = BertModel(BertConfig(**sizes | changes), add_pooling_layer=False).eval().requires_grad_(False)
    for name, weight in model.named_parameters():
        if name.endswith("bias"):  # transformers begins with zeros, which would hide a bias that is lost
            torch.nn.init.normal_(weight, std=0.3)
    return model


def some_rows(count: int = 12) -> list[tuple[list[int], list[int]]]:
    generator = torch.Generator().manual_seed(1)
    lengths = torch.randint(5, 20, (count,), generator=generator).tolist()
    return [(torch.randint(1, 60, (length,), generator=generator).tolist(), [0] * length) for length in lengths]


def diverged() -> tuple[SentenceClassifier, list[int]]:
    encoder = pico_bert()
    layers = upcycle_encoder(encoder, RECIPE)
    let_experts_diverge(encoder, [batch_of([row]) for row in some_rows(30)], RECIPE)
    return SentenceClassifier(encoder, 2).eval().requires_grad_(False), layers


@pytest.mark.parametrize("activation", ["gelu", "relu"])
def test_the_upcycled_encoder_computes_what_the_dense_one_does(activation: str) -> None:
    batch = batch_of(some_rows())
    before = pico_bert(hidden_act=activation)(**batch).last_hidden_state
    sparse = pico_bert(hidden_act=activation)
    assert upcycle_encoder(sparse, RECIPE) == [1, 2]
    blocks = routed_blocks(sparse)
    assert len(blocks) == 2
    for block in blocks:
        torch.nn.init.normal_(block.gate.weight)  # whatever it says
    torch.testing.assert_close(sparse(**batch).last_hidden_state, before, atol=1e-5, rtol=0)


def test_a_mixture_is_the_sum_over_its_best_experts() -> None:
    model, _ = diverged()
    block = routed_blocks(model.encoder)[0]
    hidden = torch.randn(2, 70, 16)
    found = block(hidden)
    for token in range(140):
        x = hidden.flatten(0, 1)[token]
        logits = block.gate.weight @ x
        best = logits.argsort(descending=True)[:2]
        weights = logits[best].exp() / logits[best].exp().sum()
        total = block.output_bias.clone()
        for weight, k in zip(weights, best.tolist(), strict=True):
            neurons = torch.nn.functional.gelu(block.experts.up_proj[k] @ x + block.experts.up_proj_bias[k])
            total += weight * (block.experts.down_proj[k] @ neurons)
        torch.testing.assert_close(found.flatten(0, 1)[token], total, atol=1e-5, rtol=1e-5)


def test_shuffling_alone_changes_no_output_and_is_undone_by_aligning() -> None:
    batch = batch_of(some_rows())
    before = pico_bert()(**batch).last_hidden_state
    encoder = pico_bert()
    [layer] = upcycle_encoder(encoder, EncoderUpcycling(moe_layers=1, num_experts=4, redrawn=0.0))
    let_experts_diverge(encoder, [batch_of([row]) for row in some_rows(30)], EncoderUpcycling(1, 4, redrawn=0.0))
    torch.testing.assert_close(encoder(**batch).last_hidden_state, before, atol=1e-5, rtol=0)
    experts = routed_blocks(encoder)[0].experts
    assert not torch.equal(experts.up_proj[0], experts.up_proj[1])
    stack = UpcycledBert(encoder.config.to_dict()).from_model(SentenceClassifier(encoder, 2), layer)
    assert center_method("wasserstein", seed=0).find(stack).objective < 1e-8


def test_experts_differ_in_a_fifth_of_their_neurons() -> None:
    dense, (model, _) = pico_bert(), diverged()
    rows = dense.encoder.layer[1].intermediate.dense.weight
    for up in routed_blocks(model.encoder)[0].experts.up_proj:
        same = (up[:, None] == rows[None]).all(dim=2).any(dim=1)
        assert int((~same).sum()) == round(0.2 * 24)


def test_a_stack_goes_out_of_the_model_and_back() -> None:
    model, layers = diverged()
    family = UpcycledBert(model.encoder.config.to_dict())
    batch = batch_of(some_rows())
    before = model(**batch)
    for layer in layers:
        stack = family.from_model(model, layer)
        assert stack.weights.shape == (4, 24, 16 + 1 + 16)
        block = model.encoder.encoder.layer[layer].intermediate
        torch.testing.assert_close(stack.block("b1")[3][:, 0], block.experts.up_proj_bias[3])
        for weight in block.experts.parameters():
            weight.zero_()
        assert not torch.allclose(model(**batch), before)
        family.to_model(model, stack)
    assert torch.equal(model(**batch), before)
    assert family.router_module(model, layers[0]).weight.shape == (4, 16)


def test_every_method_compresses_it_and_counts_its_bytes() -> None:
    model, layers = diverged()
    family = UpcycledBert(model.encoder.config.to_dict())
    batches = [batch_of([row]) for row in some_rows(40)]
    statistics = calibrate_batches(model, family, batches, layers=layers, source="rows", moments=True)[layers[0]]
    stack = family.from_model(model, layers[0])
    center = center_method("wasserstein", seed=0).find(stack)
    for name in METHODS.names():
        keep = {"mxfp4": 4.25 / 16, "nvfp4": 4.5 / 16}.get(name, 0.25 if METHODS[name].method.by_bits else 0.5)
        layer = compress_layer(stack, method=name, keep=keep, center=center, statistics=statistics)
        assert layer.restore().shape == stack.weights.shape, name
        stored = sum(tensor.nbytes for tensor in layer.experts.state_dict().values())
        assert 0 < stored <= storage_ledger(layer).true_bytes < 4 * stack.weights.numel(), name


def test_statistics_are_means_over_the_tokens_of_each_expert() -> None:
    model, layers = diverged()
    family = UpcycledBert(model.encoder.config.to_dict())
    batches = [batch_of([row]) for row in some_rows(40)]
    block, inputs = model.encoder.encoder.layer[layers[0]].intermediate, []
    hook = block.register_forward_pre_hook(lambda module, args: inputs.append(args[0][0]))
    found = calibrate_batches(model, family, batches, layers=layers, source="rows", moments=True)[layers[0]]
    hook.remove()
    tokens = torch.cat(inputs)
    chosen = (tokens @ block.gate.weight.T).argsort(descending=True)[:, :2]
    assert found.tokens == len(tokens)
    for k in range(4):
        own = tokens[(chosen == k).any(dim=1)]
        assert found.expert_tokens[k] == len(own)
        torch.testing.assert_close(found.inputs[k], own.square().mean(dim=0), atol=1e-5, rtol=1e-4)
        neurons = torch.nn.functional.gelu(own @ block.experts.up_proj[k].T + block.experts.up_proj_bias[k])
        torch.testing.assert_close(found.neurons[k], neurons.square().mean(dim=0), atol=1e-5, rtol=1e-4)


def test_what_is_no_bert_or_too_shallow_is_refused() -> None:
    other = pico_bert()
    other.config = DistilBertConfig()
    with pytest.raises(CheckpointError, match="model_type 'distilbert', expected 'bert'"):
        upcycle_encoder(other, RECIPE)
    with pytest.raises(CheckpointError, match="5 layers are to get experts, expected 1 to 3"):
        upcycle_encoder(pico_bert(), EncoderUpcycling(moe_layers=5))
