"""What networks must have in common, said in one line where they do not."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from .._core.errors import UsageError, WeightError
from .graph import Graph
from .specs import graph_of
from .tracing import Residual


def common_graph(networks: Sequence[nn.Module], *, graph: Graph | None = None, residual: Residual = "shared") -> Graph:
    """Return the one graph of all networks, after making sure that they can be compared.

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
    for mine, its in zip(first.layers, other.layers, strict=False):
        if mine != its:
            raise UsageError(
                f"network {index} has {its.kind} layer {its.name!r} where network 0 has {mine.kind} layer "
                f"{mine.name!r}, expected one architecture"
            )
    if first != other:
        raise UsageError(f"network {index} has other norms or sums than network 0, expected one architecture")


def _check_tensors(first: nn.Module, other: nn.Module, graph: Graph, index: int) -> None:
    mine, its = first.state_dict(), other.state_dict()
    axes = graph.axes(mine)
    graph.axes(its)
    if mine.keys() != its.keys():
        name = min(mine.keys() ^ its.keys())
        raise UsageError(f"tensor {name!r} is in one of network 0 and network {index} alone, expected one architecture")
    for name, tensor in its.items():
        if not bool(torch.isfinite(tensor).all()):
            raise WeightError(f"{name!r} of network {index} holds NaN or infinity, expected finite weights")
        sizes = zip(axes[name], mine[name].shape, tensor.shape, strict=True)
        for place, (axis, wanted, found) in enumerate(sizes):
            if axis is None and wanted != found:
                what = _fixed(graph, name, place)
                raise UsageError(
                    f"{name!r} of network {index} has {found} {what} and that of network 0 {wanted}, expected the "
                    "same: only hidden layers may differ in width"
                )


def _fixed(graph: Graph, name: str, place: int) -> str:
    ends = {layer.name for layer in graph.layers if layer.kind == "dense" and layer.out is None}
    if place == 0 and name.rpartition(".")[0] in ends:
        return "classes"
    return "inputs" if place == 1 else "entries along a fixed axis"


def check_shares(weights: Sequence[float] | Tensor | None, count: int) -> Tensor:
    """Return the mixing weights of `count` networks, (count,) float64; equal if left out.

    Raises
    ------
    UsageError
        If they are not `count` non-negative numbers that sum to one, or `count` is 0.
    """
    if count == 0:
        raise UsageError("no network is given, expected at least one")
    if weights is None:
        return torch.full((count,), 1 / count, dtype=torch.float64)
    shares = torch.as_tensor(weights, dtype=torch.float64)
    if shares.shape != (count,) or not bool((torch.isfinite(shares) & (shares >= 0)).all()):
        raise UsageError(
            f"weights are {shares.tolist()} for {count} networks, expected one number of 0 or more for each"
        )
    if abs(float(shares.sum()) - 1) > 1e-6:
        raise UsageError(f"weights sum to {float(shares.sum()):g}, expected 1: divide them by their sum")
    return shares
