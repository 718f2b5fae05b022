"""Other experts in a running model, and the model's own ones back afterwards."""

import weakref
from collections.abc import Iterator

import pytest
import torch

from resmoe_lab.checkpoint import Checkpoint
from resmoe_lab.experts import ExpertStack, load_stack
from resmoe_lab.methods import compress_layer
from resmoe_lab.runtime import load, load_pair, restored_experts
from resmoe_lab.store import EXACT_STORAGE

from ..experts import pico


def test_restored_experts_compute_what_the_dense_expert_computes(pico_checkpoint: Checkpoint) -> None:
    """Keeping everything changes no logit; keeping little does; and afterwards all is as before."""
    model = pico.mixtral()
    tokens = torch.arange(10)[None]
    stack = load_stack(pico_checkpoint, layer=1)
    with torch.no_grad():
        before = model(tokens).logits
        for keep, same in ((1.0, True), (0.1, False)):
            restored = compress_layer(stack, method="up", keep=keep, storage=EXACT_STORAGE).restore()
            with restored_experts(model, pico_checkpoint, [stack.with_weights(restored)]):
                during = model(tokens).logits
            assert torch.allclose(during, before) == same
            assert torch.equal(model(tokens).logits, before)


def test_a_failure_inside_puts_the_experts_back(pico_checkpoint: Checkpoint) -> None:
    model = pico.mixtral()
    stack = load_stack(pico_checkpoint, layer=0)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}

    def fail() -> None:
        with restored_experts(model, pico_checkpoint, [stack.with_weights(torch.zeros_like(stack.weights))]):
            raise KeyError("inside")

    with pytest.raises(KeyError):
        fail()
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_a_half_precision_model_keeps_its_dtype(pico_checkpoint: Checkpoint) -> None:
    model = pico.mixtral().to(torch.bfloat16)
    stack = load_stack(pico_checkpoint, layer=0)
    with restored_experts(model, pico_checkpoint, [stack]):
        assert {p.dtype for p in model.parameters()} == {torch.bfloat16}


def test_the_embedded_model_opens_with_its_tokenizer(tiny: Checkpoint) -> None:
    model, tokenizer = load_pair(tiny)
    assert next(model.parameters()).dtype == torch.float32
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert not model.training
    assert tokenizer("One morning")["input_ids"][0] == tokenizer.bos_token_id


def test_own_experts_come_from_the_checkpoint_again_and_no_stack_is_kept(pico_checkpoint: Checkpoint) -> None:
    model = load(pico_checkpoint)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    alive = list[weakref.ref[torch.Tensor]]()

    def stacks() -> Iterator[ExpertStack]:
        for layer in (0, 1):
            assert all(reference() is None for reference in alive)
            stack = load_stack(pico_checkpoint, layer=layer)
            stack = stack.with_weights(torch.zeros_like(stack.weights))
            alive.append(weakref.ref(stack.weights))
            yield stack
            del stack

    with restored_experts(model, pico_checkpoint, stacks(), reload=True):
        changed = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}
        assert changed
        assert all("experts" in name for name in changed)
        assert all(reference() is None for reference in alive)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
