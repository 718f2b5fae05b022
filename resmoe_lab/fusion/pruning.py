"""Structured pruning: removing whole neurons, which fusion with the original network can repair."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from .._core.errors import UsageError
from .graph import Graph, State
from .known_graphs import graph_of
from .states import with_state

NORMS = ("l1", "l2", "random")


def prune_neurons(
    network: nn.Module,
    share: float,
    *,
    norm: str = "l1",
    layers: Sequence[str] | None = None,
    graph: Graph | None = None,
    seed: int = 0,
) -> nn.Module:
    """Remove the neurons (or channels) with the smallest incoming weights, which makes the network smaller.

    Parameters
    ----------
    network
        Not changed.
    share
        Fraction of each layer to remove, in [0, 1); at least one neuron remains.
    norm
        ``"l1"`` or ``"l2"`` norm of a neuron's incoming weights, or ``"random"`` neurons.
    layers
        Variables of the graph, named after the first layer that writes them (default: all).
    graph
        The coupling variables (default: by :func:`~resmoe_lab.fusion.graph_of`).
    seed
        Seed for random neurons.

    Returns
    -------
    torch.nn.Module
        The pruned copy.

    Raises
    ------
    UsageError
        If a layer or the norm is unknown, or the share out of range.

    References
    ----------
    Model Fusion via Optimal Transport, section 5.2 and supplement S8.

    Examples
    --------
    >>> from resmoe_lab.fusion import MLPNet
    >>> prune_neurons(MLPNet((12, 8, 4)), 0.5).fc1
    Linear(in_features=12, out_features=4, bias=False)
    """
    graph = graph or graph_of(network)
    selected = graph.variables if layers is None else tuple(layers)
    if unknown := sorted(set(selected) - set(graph.variables)):
        raise UsageError(f"no layer {unknown[0]!r} to prune, expected some of {', '.join(graph.variables)}")
    if norm not in NORMS:
        raise UsageError(f"norm is {norm!r}, expected 'l1', 'l2' or 'random'")
    if not 0 <= share < 1:
        raise UsageError(f"share is {share}, expected a number from 0 to less than 1")
    state = network.state_dict()
    generator = torch.Generator().manual_seed(seed)
    indices = {name: _largest(_weight_norms(graph, name, state, norm, generator), share) for name in selected}
    return with_state(network, _select_neurons(graph, state, indices))


def _weight_norms(graph: Graph, variable: str, state: State, norm: str, generator: torch.Generator) -> Tensor:
    weights = torch.cat([state[f"{layer.name}.weight"].flatten(1) for layer in graph.writers(variable)], 1).double()
    if norm == "random":
        return torch.rand(len(weights), generator=generator)
    return torch.linalg.vector_norm(weights, 1 if norm == "l1" else 2, dim=1)


def _largest(norms: Tensor, share: float) -> Tensor:
    count = max(1, len(norms) - int(share * len(norms) + 0.5))
    return norms.topk(count).indices.sort().values


def _select_neurons(graph: Graph, state: State, indices: dict[str, Tensor]) -> dict[str, Tensor]:
    selected = {}
    widths = graph.widths(state)
    for name, axes in graph.axes(state).items():
        tensor = state[name]
        for dim, axis in enumerate(axes):
            if axis is None or axis.variable not in indices:
                continue
            inner = tensor.shape[dim] // widths[axis.variable]
            rows = indices[axis.variable][:, None] * inner + torch.arange(inner)
            tensor = tensor.index_select(dim, rows.flatten().to(tensor.device))
        selected[name] = tensor
    return selected
