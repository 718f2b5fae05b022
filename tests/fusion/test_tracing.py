"""Traced graphs against written ones, and against the one thing a graph promises: reordering changes no output."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.nn import functional

from resmoe_lab._core.errors import UsageError
from resmoe_lab.fusion import VGG11, MLPNet, ResNet18, graph_of, mlpnet_graph, resnet18_graph, trace_graph, vgg11_graph

from .networks import alive, mlp, permuted, resnet, vgg


class Depthwise(nn.Module):
    """A depth-wise convolution, an average over the picture as a call, a norm over channels."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 6, 3)
        self.deep = nn.Conv2d(6, 6, 3, groups=6)
        self.point = nn.Conv2d(6, 5, 1)
        self.norm = nn.LayerNorm(5)
        self.last = nn.Linear(5, 3)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        hidden = functional.gelu(self.deep(torch.relu(self.first(images))))
        return self.last(self.norm(self.point(hidden).mean((2, 3)))).log_softmax(1)


class Viewing(nn.Module):
    """Flattens by `view` with the batch's size, adds a constant, shares one stream over two sums."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(16, 8), nn.Linear(8, 8), nn.Linear(8, 8, bias=False)
        self.d = nn.Linear(8, 2)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        hidden = self.a(images.view(images.size(0), -1)).tanh()
        hidden = 0.5 * (hidden + self.b(hidden)) + 1.0
        return self.d(torch.add(hidden, self.c(hidden)).relu())


def _sequential() -> nn.Module:
    layers = [nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), nn.Dropout(), nn.Flatten()]
    return nn.Sequential(*layers, nn.Linear(36, 6), nn.Softplus(), nn.Linear(6, 3))


@pytest.mark.parametrize("depth", [1, 2, 4])
def test_mlpnet(depth: int) -> None:
    assert trace_graph(MLPNet([5] * (depth + 1))) == mlpnet_graph(depth)


@pytest.mark.parametrize("batch_norm", [False, True])
def test_vgg11(batch_norm: bool) -> None:
    assert trace_graph(VGG11(8, batch_norm=batch_norm)) == vgg11_graph(batch_norm=batch_norm)


def test_resnet18_has_one_variable_a_stream() -> None:
    graph = trace_graph(ResNet18(4))
    assert graph == resnet18_graph()
    assert graph.variables == resnet18_graph().variables
    assert len(graph.variables) == 4 + 8
    assert {layer.name for layer in graph.writers("layer2.0.conv2")} == {
        "layer2.0.conv2",
        "layer2.0.shortcut.0",
        "layer2.1.conv2",
    }
    assert graph.probes("conv1") == ["bn1", "layer1.0.bn2", "layer1.1.bn2"]


@pytest.mark.parametrize(
    ("make", "shape"),
    [
        (mlp, (3, 4)),
        (vgg, (1, 32, 32)),
        (resnet, (1, 16, 16)),
        (_sequential, (1, 8, 8)),
        (Depthwise, (1, 8, 8)),
        (Viewing, (4, 4)),
    ],
)
def test_reordering_along_the_graph_changes_no_output(make: Callable[[], nn.Module], shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    network = alive(make()).eval()
    graph = trace_graph(network)
    other = permuted(network, graph)
    images = torch.randn(5, *shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(other(images), network(images), rtol=1e-4, atol=1e-5)
    moved = [name for name, tensor in network.state_dict().items() if not torch.equal(tensor, other.state_dict()[name])]
    assert {name.rpartition(".")[0] for name in moved} == {layer.name for layer in graph.layers}


@pytest.mark.parametrize("network", [mlp(), vgg(), vgg(batch_norm=False), resnet()])
def test_networks_of_the_paper_need_no_tracing(network: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    traced = trace_graph(network)
    monkeypatch.setattr("resmoe_lab.fusion.known_graphs.trace_graph", lambda *_, **__: pytest.fail("it was traced"))
    assert graph_of(network) == traced


def test_other_networks_are_traced() -> None:
    network = nn.Sequential(nn.Linear(3, 2))
    assert graph_of(network) == trace_graph(network)
    assert graph_of(resnet(), residual="average").mixes


def test_averaged_streams_keep_their_own_variables() -> None:
    graph = trace_graph(resnet(), residual="average")
    assert graph.mixes["layer2.0.conv2+layer2.0.shortcut.0"] == ("layer2.0.conv2", "layer2.0.shortcut.0")
    assert all(len(graph.writers(variable)) == 1 for variable in graph.variables)
    assert graph.layers[-1].into == "layer4.0.conv2+layer4.0.shortcut.0+layer4.1.conv2"


class _Odd(nn.Module):
    def __init__(self, what: Callable[[_Odd, torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.what = what
        self.conv, self.fc, self.grouped = nn.Conv2d(1, 4, 3), nn.Linear(4, 4), nn.Conv2d(4, 8, 3, groups=2)
        self.two = nn.Bilinear(4, 4, 4)
        self.normed, self.bare, self.end = nn.GroupNorm(2, 4), nn.Parameter(torch.zeros(4)), nn.Linear(4, 2)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.end(self.what(self, images))


@pytest.mark.parametrize(
    ("what", "said"),
    [
        (lambda net, x: net.normed(net.conv(x)).flatten(1), "'normed', a GroupNorm"),
        (lambda net, x: net.fc(net.conv(x)), "'fc', a Linear on maps"),
        (lambda net, x: net.grouped(net.conv(x)).flatten(1), "in 2 groups"),
        (lambda net, x: net.fc(net.fc(x)), "'fc', which is used twice"),
        (lambda net, x: net.fc(x) * net.fc.weight[0], "bare tensor"),
        (lambda net, x: net.fc(x) + net.bare, "bare tensor"),
        (lambda net, x: net.fc(x).relu() * net.conv(x), "product of two"),
        (lambda net, x: torch.cat([net.fc(x), net.fc(x)]), "used twice"),
        (lambda net, x: net.fc(x).cumsum(1), "a call of cumsum"),
        (lambda net, x: net.conv(x).flatten(2), "reshapes hidden neurons"),
        (lambda net, x: net.conv(x).mean(1), "a call of mean"),
        (lambda net, x: net.fc(x)[:, :4], "a call of getitem"),
        (lambda net, x: net.fc(x).T, "a call of getattr"),
        (lambda net, x: net.fc(x) + torch.arange(x.size(1)), "a call of arange"),
        (lambda net, x: net.fc(x).relu() + torch.rand(4) * x.size(0), "bare tensor"),
        (lambda net, x: net.two(net.fc(x), net.conv(x)), "'two', which takes 2 activations"),
        (lambda net, x: net.fc(x) if x.sum() > 0 else x, "cannot be followed"),
    ],
)
def test_what_cannot_be_followed_is_named(what: Callable[..., torch.Tensor], said: str) -> None:
    with pytest.raises(UsageError, match=said) as caught:
        trace_graph(_Odd(what))
    assert "by hand" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_unknown_way_with_residuals() -> None:
    with pytest.raises(UsageError, match="'shared' or 'average'"):
        trace_graph(mlp(), residual="none")
