"""Fusion against the paper's figures, and against changes that it must undo exactly."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn

from resmoe_lab import fusion as package
from resmoe_lab._core.errors import Cancelled, UsageError
from resmoe_lab._core.progress import Tick
from resmoe_lab.fusion import Ensemble, Images, MLPNet, accuracy, align, fuse, trace_graph, vanilla_average

from .networks import largest_difference, mlp, permuted, resnet, vgg


def test_published_networks_by_weights(published: list[nn.Module], digits: Images) -> None:
    """Tables S2 and S4: 97.72, 97.75, ensemble 97.88, vanilla 73.84, fused 96.63, aligned A 97.72."""
    assert [round(accuracy(network, digits), 2) for network in published] == [97.72, 97.75]
    assert round(accuracy(Ensemble(published), digits), 2) == 97.88
    assert round(accuracy(vanilla_average(published), digits), 2) == 73.84
    before = copy.deepcopy(published)
    fusion = fuse(published)
    assert round(accuracy(fusion.network, digits), 2) == 96.63
    assert round(accuracy(fusion.aligned[0], digits), 2) == 97.72
    assert all(largest_difference(*pair) == 0 for pair in zip(before, published, strict=True))
    costs = fusion.costs().set_index(["network", "layer"])["cost"]
    assert (costs[1] == 0).all()
    assert (costs[0] > 1).all()


def test_published_networks_by_activations(published: list[nn.Module], digits: Images, training_digits: Images) -> None:
    """Table S6: 96.21 +- 0.36 at 200 samples over five runs."""
    accuracies = []
    for seed in range(5):
        fusion = fuse(published, by="activations", samples=training_digits.sample(200, seed=seed))
        accuracies.append(accuracy(fusion.network, digits))
        assert round(accuracy(fusion.aligned[0], digits), 2) == 97.72
    assert abs(np.mean(accuracies) - 96.21) < 0.36


def test_mixing_weights_go_from_one_parent_to_the_other(published: list[nn.Module], digits: Images) -> None:
    fusion = fuse(published, weights=[0.3, 0.7])
    assert accuracy(fusion.mix([0, 1]), digits) == accuracy(published[1], digits)
    assert round(accuracy(fusion.mix([1, 0]), digits), 2) == 97.72
    assert largest_difference(fusion.mix([0.3, 0.7]), fusion.network) == 0


@pytest.mark.parametrize("make", [mlp, vgg, resnet])
@pytest.mark.parametrize("by", ["weights", "activations"])
def test_a_reordered_network_is_fused_back(make: type[nn.Module], by: str) -> None:
    network = make()
    other = permuted(network, trace_graph(network))
    shape = (12,) if make is mlp else (1, 32, 32)
    samples = torch.randn(6, *shape, generator=torch.Generator().manual_seed(3)) if by == "activations" else None
    assert largest_difference(network, other) > 0.1
    fusion = fuse([other, network], by=by, samples=samples)
    assert largest_difference(fusion.aligned[0], network) == 0
    assert largest_difference(fusion.network, network) < 1e-6


def test_averaged_streams_bring_a_reordered_residual_network_back() -> None:
    network = resnet()
    fusion = fuse([permuted(network, trace_graph(network)), network], residual="average")
    assert largest_difference(fusion.network, network) < 1e-6
    assert "conv1+layer1.0.conv2" in fusion.couplings[0]


def test_several_networks_in_other_orders() -> None:
    network = mlp()
    copies = [permuted(network, trace_graph(network), seed=seed) for seed in range(3)]
    fusion = fuse([*copies, network], weights=[0.5, 0.2, 0.2, 0.1])
    assert largest_difference(fusion.network, network) < 1e-6
    first = fuse([*copies, network], reference=0)
    assert largest_difference(first.network, copies[0]) < 1e-6


def _widened(narrow: MLPNet, times: int) -> MLPNet:
    """Every hidden neuron in equal copies that share what it feeds: the same function."""
    widths = [narrow.fc1.in_features, *(times * w for w in (narrow.fc1.out_features, narrow.fc2.out_features))]
    wide = MLPNet([*widths, narrow.fc3.out_features], bias=True)
    for index, (into, out) in enumerate([(1, times), (times, times), (times, 1)], start=1):
        mine, its = wide.get_submodule(f"fc{index}"), narrow.get_submodule(f"fc{index}")
        rows = its.weight.data.repeat_interleave(out, 0)
        mine.weight.data = rows.repeat_interleave(into, 1) / into
        mine.bias.data = its.bias.data.repeat_interleave(out, 0)
    return wide


@pytest.mark.parametrize("by", ["weights", "activations"])
def test_widths_are_bridged_both_ways(by: str) -> None:
    narrow = mlp()
    wide = _widened(narrow, 3)
    inputs = torch.randn(20, 12, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(wide(inputs), narrow(inputs))
    options = {"by": by, "samples": inputs}
    shrunk = fuse([wide, narrow], **options)
    assert largest_difference(shrunk.network, narrow) < 1e-6
    grown = fuse([narrow, wide], **options)
    assert largest_difference(grown.network, wide) < 1e-6
    torch.testing.assert_close(grown.network(inputs), narrow(inputs))


def test_soft_plans_approach_the_exact_one() -> None:
    network = mlp()
    other = permuted(network, trace_graph(network))
    far = [
        largest_difference(fuse([other, network], regularization=constant).network, network)
        for constant in (0.3, 0.05, 0.01)
    ]
    assert far == sorted(far, reverse=True)
    assert far[-1] < 1e-5 < far[0]


def test_importance_gives_masses() -> None:
    network = mlp()
    other = permuted(network, trace_graph(network))
    samples = torch.randn(50, 12, generator=torch.Generator().manual_seed(0))
    fusion = fuse([other, network], samples=samples, importance=True)
    assert largest_difference(fusion.network, network) < 1e-5
    hidden = (samples @ network.fc1.weight.T + network.fc1.bias).detach().double()
    expected = hidden.mean(0).abs() * hidden.std(0, correction=0)
    torch.testing.assert_close(fusion.couplings[0]["fc1"].columns, expected / expected.sum(), rtol=1e-5, atol=1e-8)


def test_the_second_round_aligns_with_the_fused_network_of_the_first() -> None:
    networks = [mlp((12, 60, 40, 4), seed=seed) for seed in range(8)]
    options = {"by": "activations", "samples": torch.randn(9, 12, generator=torch.Generator().manual_seed(0))}
    once, twice = fuse(networks, **options), fuse(networks, rounds=2, **options)
    assert (once.rounds, twice.rounds) == (1, 2)
    for network, couplings in zip(networks, twice.couplings, strict=True):
        wanted = align(network, once.network, **options).couplings
        assert all(torch.equal(couplings[name].plan, wanted[name].plan) for name in wanted)
    assert any(
        not torch.equal(a["fc2"].plan, b["fc2"].plan) for a, b in zip(once.couplings, twice.couplings, strict=True)
    )
    assert fuse(networks[:2], rounds=50).rounds == 2, "it ends where no match changes"


def test_fusing_can_be_stopped() -> None:
    def stop(tick: Tick) -> None:
        if tick.task == "matching neurons" and tick.done == 1:
            raise Cancelled("enough")

    with pytest.raises(Cancelled):
        fuse([mlp(), mlp(seed=1)], progress=stop)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"weights": [0.5, 0.4]}, "sum to 0.9, expected 1"),
        ({"weights": [1.5, -0.5]}, "0 or more"),
        ({"weights": [1.0]}, "for 2 networks"),
        ({"rounds": 0}, "rounds is 0"),
        ({"reference": 2}, "reference is 2"),
        ({"by": "names"}, "by is 'names'"),
        ({"by": "activations"}, "no samples are given"),
        ({"importance": True}, "no samples are given"),
        ({"regularization": -1.0}, "regularization is -1.0"),
    ],
)
def test_bad_arguments_are_named(options: dict[str, object], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        fuse([mlp(), mlp(seed=1)], **options)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("PLAIN", "VANILLA"),
        ("Aligned", "AlignedNetwork"),
        ("fused_starts", "student_initializations"),
        ("learn_from", "train_students"),
        ("renorm", "recalibrate_batch_norm"),
    ],
)
def test_old_names_go_on_working(old: str, new: str) -> None:
    with pytest.warns(DeprecationWarning, match=f"use resmoe_lab.fusion.{new}"):
        assert getattr(package, old) is getattr(package, new)
