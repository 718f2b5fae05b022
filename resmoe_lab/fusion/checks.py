"""Validation of networks that are to be aligned or averaged."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from .._core.errors import UsageError, WeightError
from .graph import Graph
from .known_graphs import graph_of
from .tracing import Residual


def common_graph(networks: Sequence[nn.Module], *, graph: Graph | None = None, residual: Residual = "shared") -> Graph:
    """Return the common graph of all networks, after checking that they can be compared.

    Raises
    ------
    UsageError
        If they differ in depth, in layers, or in inputs and classes.
    WeightError
        If a weight is NaN or infinite.
    """
    graphs = [graph or graph_of(network, residual=residual) for network in networks]
    for index, other in enumerate(graphs[1:], start=1):
        _check_layers(graphs[0], other, index)
    for index, network in enumerate(networks):
        _check_tensors(networks[0], network, graphs[0], index)
    return graphs[0]


def _check_layers(first: Graph, other: Graph, index: int) -> None:
    depths = [sum(layer.kind == "dense" for layer in graph.layers) for graph in (first, other)]
    if depths[0] != depths[1]:
        raise UsageError(
            f"network {index} has {depths[1]} layers and network 0 has {depths[0]}, expected one depth: fusion matches "
            "layer with layer"
        )
    for expected, actual in zip(first.layers, other.layers, strict=False):
        if expected != actual:
            raise UsageError(
                f"network {index} has {actual.kind} layer {actual.name!r} where network 0 has {expected.kind} layer "
                f"{expected.name!r}, expected one architecture"
            )
    if first != other:
        raise UsageError(f"network {index} has other norms or sums than network 0, expected one architecture")


def _check_tensors(first: nn.Module, other: nn.Module, graph: Graph, index: int) -> None:
    expected, actual = first.state_dict(), other.state_dict()
    axes = graph.axes(expected)
    graph.axes(actual)
    if expected.keys() != actual.keys():
        name = min(expected.keys() ^ actual.keys())
        raise UsageError(f"tensor {name!r} is in one of network 0 and network {index} alone, expected one architecture")
    for name, tensor in actual.items():
        if not bool(torch.isfinite(tensor).all()):
            raise WeightError(f"{name!r} of network {index} holds NaN or infinity, expected finite weights")
        sizes = zip(axes[name], expected[name].shape, tensor.shape, strict=True)
        for dim, (axis, expected_size, size) in enumerate(sizes):
            if axis is None and size != expected_size:
                raise UsageError(
                    f"{name!r} of network {index} has {size} {_axis_name(graph, name, dim)} and that of network 0 "
                    f"{expected_size}, expected the "
                    "same: only hidden layers may differ in width"
                )


def _axis_name(graph: Graph, name: str, dim: int) -> str:
    outputs = {layer.name for layer in graph.layers if layer.kind == "dense" and layer.out is None}
    if dim == 0 and name.rpartition(".")[0] in outputs:
        return "classes"
    return "inputs" if dim == 1 else "entries along a fixed axis"


def mixing_weights(weights: Sequence[float] | Tensor | None, count: int) -> Tensor:
    """Return the mixing weights of `count` networks, (count,) float64 (default: equal).

    Raises
    ------
    UsageError
        If they are not `count` non-negative numbers that sum to one, or `count` is 0.
    """
    if count == 0:
        raise UsageError("no network is given, expected at least one")
    if weights is None:
        return torch.full((count,), 1 / count, dtype=torch.float64)
    mixing = torch.as_tensor(weights, dtype=torch.float64)
    if mixing.shape != (count,) or not bool((torch.isfinite(mixing) & (mixing >= 0)).all()):
        raise UsageError(
            f"weights are {mixing.tolist()} for {count} networks, expected one number of 0 or more for each"
        )
    if abs(float(mixing.sum()) - 1) > 1e-6:
        raise UsageError(f"weights sum to {float(mixing.sum()):g}, expected 1: divide them by their sum")
    return mixing
