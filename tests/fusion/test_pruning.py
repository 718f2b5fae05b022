from __future__ import annotations

import pytest
import torch

from resmoe_lab._core.errors import UsageError
from resmoe_lab.fusion import fuse, prune_neurons

from .networks import largest_difference, mlp, resnet, vgg


@pytest.mark.parametrize(("norm", "power"), [("l1", 1), ("l2", 2)])
def test_the_smallest_neurons_go(norm: str, power: int) -> None:
    network = mlp((12, 8, 6, 4), bias=False)
    pruned = prune_neurons(network, 0.5, norm=norm, layers=["fc2"])
    sizes = network.fc2.weight.abs().pow(power).sum(1)
    largest = sizes.argsort(descending=True)[:3].sort().values
    assert torch.equal(pruned.fc2.weight, network.fc2.weight[largest])
    assert torch.equal(pruned.fc3.weight, network.fc3.weight[:, largest])
    assert torch.equal(pruned.fc1.weight, network.fc1.weight)
    assert (pruned.fc2.out_features, pruned.fc3.in_features) == (3, 3)


def test_neurons_that_feed_nothing_may_go_without_a_change() -> None:
    network = mlp()
    network.fc2.weight.data[4], network.fc2.bias.data[4] = 1e-3, -1.0  # small, and never above zero
    inputs = torch.rand(6, 12)
    pruned = prune_neurons(network, 1 / 7, layers=["fc2"])
    torch.testing.assert_close(pruned(inputs), network(inputs))


@pytest.mark.parametrize(("make", "side"), [(vgg, 32), (resnet, 16)])
def test_channels_of_convolutions_and_streams(make: type[torch.nn.Module], side: int) -> None:
    network = make()
    pruned = prune_neurons(network, 0.5, norm="random", seed=3)
    images = torch.randn(2, 1, side, side)
    assert pruned(images).shape == (2, 10)
    count = sum(p.numel() for p in pruned.parameters()) / sum(p.numel() for p in network.parameters())
    assert count == pytest.approx(0.25, abs=0.03)
    assert fuse([network, pruned]).network(images).shape == (2, 10)


def test_nothing_pruned_is_a_copy_and_one_neuron_stays() -> None:
    network = mlp()
    assert largest_difference(prune_neurons(network, 0.0), network) == 0
    assert prune_neurons(network, 0.99).fc1.out_features == 1


def test_bad_choices_are_named() -> None:
    for options, said in (
        ({"layers": ["fc9"]}, "no layer 'fc9'"),
        ({"norm": "l3"}, "norm is 'l3'"),
        ({"share": 1.0}, "share is 1"),
    ):
        with pytest.raises(UsageError, match=said):
            prune_neurons(mlp(), **{"share": 0.5, **options})
