"""Networks that do not fit together are told apart in one line."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from resmoe_lab._core.errors import DataError, ResmoeError, UsageError, WeightError
from resmoe_lab.fusion import Graph, MLPNet, align, fuse, mlpnet_graph

from .networks import mlp, resnet, vgg


def _nan() -> nn.Module:
    network = mlp(seed=1)
    network.fc2.weight.data[3, 2] = torch.nan
    return network


def _dead() -> nn.Module:
    network = mlp(seed=1, bias=False)
    network.fc2.weight.data[3] = 0
    return network


@pytest.mark.parametrize(
    ("other", "kind", "said"),
    [
        (lambda: mlp((12, 9, 7, 6, 4)), UsageError, "network 1 has 4 layers and network 0 has 3"),
        (lambda: mlp((10, 9, 7, 4)), UsageError, "'fc1.weight' of network 1 has 10 inputs and that of network 0 12"),
        (lambda: mlp((12, 9, 7, 3)), UsageError, "'fc3.weight' of network 1 has 3 classes and that of network 0 4"),
        (
            lambda: nn.Sequential(nn.Linear(12, 9), nn.Linear(9, 7), nn.Linear(7, 4)),
            UsageError,
            "dense layer '0' where",
        ),
        (lambda: mlp(bias=False), UsageError, "'fc1.bias' is in one of"),
        (_nan, WeightError, "'fc2.weight' of network 1 holds NaN"),
    ],
)
def test_what_does_not_fit(other: type[nn.Module], kind: type[ResmoeError], said: str) -> None:
    with pytest.raises(kind, match=said) as caught:
        fuse([mlp(), other()])
    assert "\n" not in str(caught.value)


def test_norms_must_be_in_the_same_places() -> None:
    layers = [nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)]
    with pytest.raises(UsageError, match="one architecture"):
        fuse([nn.Sequential(*layers), nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))])
    with pytest.raises(UsageError, match="other norms or sums"):
        fuse([nn.Sequential(*layers), nn.Sequential(*layers, nn.BatchNorm1d(2))])


def test_a_neuron_without_weights_has_no_direction() -> None:
    with pytest.raises(WeightError, match="neuron 3 of 'fc2' has only zero weights"):
        fuse([_dead(), mlp(bias=False)])
    samples = torch.randn(5, 12, generator=torch.Generator().manual_seed(0))
    assert align(_dead(), mlp(bias=False), by="activations", samples=samples).couplings["fc2"].permutation is not None
    with pytest.raises(WeightError, match=r"neuron 3 of 'fc2' has the same output on all 5 samples"):
        fuse([_dead(), mlp(bias=False)], by="activations", samples=samples, importance=True)


@pytest.mark.parametrize(
    ("samples", "said"), [(torch.zeros(0, 12), "0 samples"), (torch.zeros(3, 11), r"shape \(3, 11\) do not fit")]
)
def test_samples_that_say_nothing(samples: torch.Tensor, said: str) -> None:
    with pytest.raises(DataError, match=said):
        fuse([mlp(), mlp(seed=1)], by="activations", samples=samples)
    with pytest.raises(WeightError, match="'fc1' hold NaN"):
        fuse([mlp(), mlp(seed=1)], by="activations", samples=torch.full((2, 12), torch.inf))


def test_a_graph_of_another_network_is_refused() -> None:
    with pytest.raises(UsageError, match="has no layer 'fc4'"):
        fuse([mlp(), mlp(seed=1)], graph=mlpnet_graph(4))
    with pytest.raises(UsageError, match="belongs to no layer of the graph"):
        fuse([mlp(), mlp(seed=1)], graph=mlpnet_graph(2))
    broken = mlp(seed=1)
    broken.fc2 = nn.Linear(10, 7)
    with pytest.raises(UsageError, match="cannot belong to 9 neurons"):
        fuse([broken, mlp()], graph=mlpnet_graph(3))


def test_nothing_to_fuse() -> None:
    with pytest.raises(UsageError, match="no network is given"):
        fuse([])


@pytest.mark.parametrize("network", [mlp(), vgg(), resnet(), MLPNet((12, 4))])
def test_one_network_is_its_own_fusion(network: nn.Module) -> None:
    network.train()
    network.requires_grad_(False)
    fused = fuse([network]).network
    assert fused is not network
    assert not any(parameter.requires_grad for parameter in fused.parameters())
    assert all(
        torch.equal(a, b) for a, b in zip(network.state_dict().values(), fused.state_dict().values(), strict=True)
    )


def test_a_written_graph_serves_where_none_can_be_traced() -> None:
    class Branching(MLPNet):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return super().forward(images if images.sum() > 0 else -images)

    networks = [Branching((12, 9, 4)), Branching((12, 9, 4))]
    with pytest.raises(UsageError, match="cannot be followed"):
        fuse(networks)
    graph = mlpnet_graph(2)
    assert isinstance(graph, Graph)
    assert fuse(networks, graph=graph).couplings[0]["fc1"].permutation is not None
