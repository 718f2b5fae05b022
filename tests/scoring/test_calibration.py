"""Statistics of calibration text against the model's own modules, hooked and differentiated by hand."""

import pytest
import torch

from resmoe_lab._core.errors import CheckpointError, UsageError
from resmoe_lab.checkpoint import Checkpoint
from resmoe_lab.experts import FAMILIES, Family, family_of
from resmoe_lab.runtime import load_pair
from resmoe_lab.scoring.calibration import calibrate, calibration_requests
from resmoe_lab.scoring.expert_recorder import neuron_values
from resmoe_lab.scoring.likelihood import Request

from ..experts import pico

REQUESTS = [Request((1,), tuple(range(2, 20))), Request((1, 5, 9), (30, 31, 40, 3, 3, 17))]
#: Families whose experts are told who goes where, with a layer that has experts.
LAYERS = {"mixtral": 0, "qwen2_moe": 0, "deepseek_v3": 1, "switch_transformers": 1, "gpt_oss": 0, "granitemoe": 1}


def _model(model_type: str) -> tuple[torch.nn.Module, Family]:
    model = pico.PICO[model_type]().requires_grad_(False)
    [family] = [FAMILIES[name] for name in FAMILIES if model_type in FAMILIES[name].model_types]
    return model, family(model.config.to_dict())


@pytest.mark.filterwarnings("ignore:layer")
@pytest.mark.parametrize("model_type", LAYERS)
def test_shares_add_up_and_the_model_is_left_as_it_was(model_type: str) -> None:
    model, family = _model(model_type)
    layer = LAYERS[model_type]
    statistics = calibrate(model, family, REQUESTS, layers=[layer], fisher=True)[layer]
    assert float(statistics.usage.sum()) == pytest.approx(1.0)
    assert statistics.tokens == 28
    assert statistics.affinity.diagonal() == pytest.approx(torch.ones(4))
    assert statistics.fisher is not None
    assert (statistics.fisher[statistics.usage > 0] > 0).all()
    assert not any(weight.requires_grad for weight in model.parameters())
    assert not family.experts_module(model, layer)._forward_pre_hooks


@pytest.mark.filterwarnings("ignore:layer")
@pytest.mark.parametrize("model_type", LAYERS)
def test_neurons_through_w2_are_the_experts_output(model_type: str) -> None:
    """What the neurons hand on, times W2, is what the module itself computes for one token and one expert."""
    model, family = _model(model_type)
    layer = LAYERS[model_type]
    module, stack = family.experts_module(model, layer), family.from_model(model, layer)
    token = torch.randn(1, 8, generator=torch.Generator().manual_seed(0))
    index, weight = torch.tensor([[2]]), torch.ones(1, 1)
    if model_type == "switch_transformers":
        index = torch.nn.functional.one_hot(index, 4)
    if model_type == "gpt_oss":
        module.down_proj_bias.zero_()
    out = module(token, index, weight)
    torch.testing.assert_close(
        neuron_values(module, family, 2, token) @ stack.block("w2")[2], out, atol=1e-5, rtol=1e-4
    )


@pytest.mark.filterwarnings("ignore:layer")
def test_inputs_and_moments_are_means_over_tokens() -> None:
    """Taken from the module's own arguments, token by token."""
    model, family = _model("mixtral")
    arguments: list[tuple[torch.Tensor, torch.Tensor]] = []
    hook = family.experts_module(model, 1).register_forward_pre_hook(
        lambda _, args: arguments.append((args[0], args[1]))
    )
    statistics = calibrate(model, family, REQUESTS, layers=[1])[1]
    hook.remove()
    hidden, index = (torch.cat(parts) for parts in zip(*arguments, strict=True))
    torch.testing.assert_close(statistics.moments, hidden.T @ hidden / len(hidden))
    for k in range(4):
        routed = hidden[(index == k).any(1)]
        if len(routed):
            torch.testing.assert_close(statistics.inputs[k], routed.square().mean(0))
            assert float(statistics.usage[k]) == pytest.approx(len(routed) / index.numel())


@pytest.mark.filterwarnings("ignore:layer")
def test_fisher_information_is_the_loss_s_squared_gradient() -> None:
    """By the labels and the backward pass of transformers itself."""
    model, family = _model("mixtral")
    request = REQUESTS[0]
    fisher = calibrate(model, family, [request], layers=[0], fisher=True)[0].fisher
    model.requires_grad_(True)
    tokens = torch.tensor([request.context + request.continuation])
    model(tokens, labels=tokens).loss.backward()
    module = family.experts_module(model, 0)
    for k in range(4):
        squares = sum(float(part.grad[k].double().square().sum()) for part in (module.gate_up_proj, module.down_proj))
        assert float(fisher[k]) == pytest.approx(squares / (3 * 8 * 12), rel=1e-4)


def test_an_expert_that_no_token_reaches_is_named_and_measured_on_all() -> None:
    model, family = _model("mixtral")
    family.router_module(model, 0).weight.zero_()  # all logits alike: the same two experts always win
    with pytest.warns(UserWarning, match=r"layer 0: no calibration token reaches expert \d, \d \(28 tokens of book\)"):
        statistics = calibrate(model, family, REQUESTS, layers=[0], source="book")[0]
    assert len(statistics.unreached) == 2
    for k in statistics.unreached:
        torch.testing.assert_close(statistics.inputs[k], statistics.moments.diagonal())
    assert (statistics.neurons > 0).all()


def test_a_family_that_hides_its_choices_is_refused() -> None:
    model, family = _model("llama4_text")
    with pytest.raises(CheckpointError, match="family 'llama4' cannot be calibrated"):
        calibrate(model, family, REQUESTS, layers=[1])


def test_text_comes_from_a_task_of_texts(tiny: Checkpoint) -> None:
    model, tokenizer = load_pair(tiny)
    requests = calibration_requests(model, tokenizer, tokens=600)
    lengths = [len(request.context) + len(request.continuation) for request in requests]
    assert sum(lengths) >= 600 > sum(lengths[:-1])
    with pytest.raises(UsageError, match="'storyworld_action' has no running text"):
        calibration_requests(model, tokenizer, text="storyworld_action")
    with pytest.raises(UsageError, match="0 calibration tokens"):
        calibration_requests(model, tokenizer, tokens=0)
    layer = family_of(tiny).layers(tiny)[0]
    assert calibrate(model, family_of(tiny), requests, layers=[layer])[layer].source == "storyworld_perplexity"
