import numpy as np
import pytest
import torch

from resmoe_lab.analysis.similarity import expert_similarity
from resmoe_lab.centers import find_center
from resmoe_lab.experts import ExpertStack
from resmoe_lab.scoring.likelihood import Request
from resmoe_lab.scoring.routing import routing_shares

from ..experts import pico


def test_similarity_is_the_cosine_of_flattened_experts(random_stack: ExpertStack) -> None:
    flat = random_stack.weights.flatten(1).double().numpy()
    norms = np.linalg.norm(flat, axis=1)
    expected = flat @ flat.T / np.outer(norms, norms)
    np.testing.assert_allclose(expert_similarity(random_stack), expected, atol=1e-12)


def test_shuffled_copies_are_alike_only_when_aligned() -> None:
    base = torch.randn(12, 6, generator=torch.Generator().manual_seed(0))
    copies = torch.stack([base[torch.randperm(12, generator=torch.Generator().manual_seed(k))] for k in range(3)])
    stack = ExpertStack(copies, (), layer=0)
    assert expert_similarity(stack)[0, 1] < 0.9
    np.testing.assert_allclose(expert_similarity(stack, find_center(stack)), 1.0, atol=1e-6)


def test_a_zero_expert_is_similar_to_nothing() -> None:
    weights = torch.ones(2, 3, 4)
    weights[1] = 0
    np.testing.assert_array_equal(expert_similarity(ExpertStack(weights, (), layer=0)), np.eye(2))


def test_shares_are_the_routers_choices() -> None:
    """Counted again through a hook on each router's own output."""
    model = pico.mixtral()
    requests = [Request((1,), tuple(range(2, 20))), Request((1,), (5, 9, 33))]
    logits: dict[int, list[torch.Tensor]] = {0: [], 1: []}
    for layer in logits:
        gate = model.model.layers[layer].mlp.gate
        gate.register_forward_pre_hook(
            lambda m, args, layer=layer: logits[layer].append(args[0].reshape(-1, 8) @ m.weight.T)
        )
    shares = routing_shares(model, requests, layers=[0, 1], top_k=2)
    for layer, layer_logits in logits.items():
        expected = torch.cat(layer_logits).topk(2).indices.flatten().bincount(minlength=4).double()
        ours = shares[shares.layer == layer].share.to_numpy()
        assert ours == pytest.approx((expected / expected.sum()).numpy())
