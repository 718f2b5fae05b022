"""The graphs of the paper's networks, written by hand."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

from .graph import Graph, Layer
from .networks import VGG11, MLPNet, ResNet18
from .tracing import Residual, trace_graph


def graph_of(network: nn.Module, *, residual: Residual = "shared") -> Graph:
    """Return a network's coupling variables: from this module for the paper's networks, traced for all others.

    Parameters
    ----------
    network
        The network.
    residual
        How residual streams are coupled, see :func:`~resmoe_lab.fusion.trace_graph`.

    Returns
    -------
    Graph
        The layers and their variables.

    Notes
    -----
    Tracing patches the call of every module in the process, so it is not thread-safe; the graphs of this module are.

    Examples
    --------
    >>> graph_of(MLPNet((12, 9, 7, 4))).variables
    ('fc1', 'fc2')
    """
    # A subclass may override the forward pass, so it is traced.
    if type(network) is MLPNet:
        return mlpnet_graph(network.depth)
    if type(network) is VGG11:
        return vgg11_graph(batch_norm=any(isinstance(module, nn.BatchNorm2d) for module in network.features))
    if type(network) is ResNet18 and residual == "shared":
        return resnet18_graph()
    return trace_graph(network, residual=residual)


def mlpnet_graph(depth: int = 4) -> Graph:
    """Return the graph of an :class:`~resmoe_lab.fusion.MLPNet` of `depth` layers: one variable for each hidden layer.

    Examples
    --------
    >>> mlpnet_graph(3).variables
    ('fc1', 'fc2')
    """
    names = [None, *(f"fc{index}" for index in range(1, depth)), None]
    return Graph(tuple(Layer(f"fc{i + 1}", "dense", names[i], names[i + 1]) for i in range(depth)))


def vgg11_graph(*, batch_norm: bool = False) -> Graph:
    """Return the graph of a :class:`~resmoe_lab.fusion.VGG11`: one variable for each convolution.

    Examples
    --------
    >>> len(vgg11_graph().variables)
    8
    """
    layers, previous, index = [], None, 0
    for pooled in (True, True, False, True, False, True, False, True):
        name = f"features.{index}"
        layers.append(Layer(name, "dense", previous, name))
        if batch_norm:
            layers.append(Layer(f"features.{index + 1}", "each", name, name))
        previous, index = name, index + 2 + batch_norm + pooled
    return Graph((*layers, Layer("classifier", "dense", previous, None)))


def resnet18_graph() -> Graph:
    """Return the graph of a :class:`~resmoe_lab.fusion.ResNet18`: one variable for each stage and each block.

    Examples
    --------
    >>> len(resnet18_graph().variables)
    12
    """
    layers = [Layer("conv1", "dense", None, "conv1"), Layer("bn1", "each", "conv1", "conv1")]
    stream = "conv1"
    for stage in range(1, 5):
        output = stream if stage == 1 else f"layer{stage}.0.conv2"
        layers += _block(f"layer{stage}.0", stream, output)
        layers += _block(f"layer{stage}.1", output, output)
        stream = output
    return Graph((*layers, Layer("fc", "dense", stream, None)))


def _block(name: str, into: str, out: str) -> Iterator[Layer]:
    inner = f"{name}.conv1"
    yield Layer(inner, "dense", into, inner)
    yield Layer(f"{name}.bn1", "each", inner, inner)
    yield Layer(f"{name}.conv2", "dense", inner, out)
    yield Layer(f"{name}.bn2", "each", out, out)
    if into != out:
        yield Layer(f"{name}.shortcut.0", "dense", into, out)
        yield Layer(f"{name}.shortcut.1", "each", out, out)
