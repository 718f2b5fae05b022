"""The graphs of the paper's networks, written out."""

from __future__ import annotations

from collections.abc import Iterator

from .graph import Graph, Layer


def mlpnet_graph(depth: int = 4) -> Graph:
    """Return the graph of an :class:`~resmoe_lab.fusion.MLPNet` of `depth` layers: one variable a hidden layer."""
    names = [None, *(f"fc{index}" for index in range(1, depth)), None]
    return Graph(tuple(Layer(f"fc{i + 1}", "dense", names[i], names[i + 1]) for i in range(depth)))


def vgg11_graph(*, batch_norm: bool = False) -> Graph:
    """Return the graph of a :class:`~resmoe_lab.fusion.VGG11`: one variable a convolution."""
    layers, before, place = [], None, 0
    for pooled in (True, True, False, True, False, True, False, True):
        name = f"features.{place}"
        layers.append(Layer(name, "dense", before, name))
        if batch_norm:
            layers.append(Layer(f"features.{place + 1}", "each", name, name))
        before, place = name, place + 2 + batch_norm + pooled
    return Graph((*layers, Layer("classifier", "dense", before, None)))


def resnet18_graph() -> Graph:
    """Return the graph of a :class:`~resmoe_lab.fusion.ResNet18`: a variable a stage's stream, one in each block."""
    layers = [Layer("conv1", "dense", None, "conv1"), Layer("bn1", "each", "conv1", "conv1")]
    stream = "conv1"
    for stage in range(1, 5):
        entry = stream if stage == 1 else f"layer{stage}.0.conv2"
        layers += _block(f"layer{stage}.0", stream, entry)
        layers += _block(f"layer{stage}.1", entry, entry)
        stream = entry
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
