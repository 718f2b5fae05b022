"""Removing whole neurons, which fusion with the network before can repair."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from .._core.errors import UsageError
from .graph import Graph, State
from .moving import with_state
from .specs import graph_of

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
    """Remove the neurons (or channels) with the smallest incoming weights; what is left is a smaller network.

    Parameters
    ----------
    network
        Not changed.
    share
        How much of each layer goes, from 0 to less than 1; at least one neuron stays.
    norm
        ``"l1"`` or ``"l2"`` norm of a neuron's incoming weights, or ``"random"`` neurons.
    layers
        Variables of the graph, called after the first layer that writes them; all where they are left out.
    graph
        The coupling variables; traced where it is left out.
    seed
        Draws random neurons.

    Raises
    ------
    UsageError
        If a layer, the norm or the share is not one.

    References
    ----------
    Model Fusion via Optimal Transport, section 5.2 and supplement S8.
    """
    graph = graph or graph_of(network)
    chosen = graph.variables if layers is None else tuple(layers)
    if unknown := sorted(set(chosen) - set(graph.variables)):
        raise UsageError(f"no layer {unknown[0]!r} to prune, expected some of {', '.join(graph.variables)}")
    if norm not in NORMS:
        raise UsageError(f"norm is {norm!r}, expected 'l1', 'l2' or 'random'")
    if not 0 <= share < 1:
        raise UsageError(f"share is {share}, expected a number from 0 to less than 1")
    state = network.state_dict()
    generator = torch.Generator().manual_seed(seed)
    kept = {name: _kept(_sizes(graph, name, state, norm, generator), share) for name in chosen}
    return with_state(network, _selected(graph, state, kept))


def _sizes(graph: Graph, variable: str, state: State, norm: str, generator: torch.Generator) -> Tensor:
    weights = torch.cat([state[f"{layer.name}.weight"].flatten(1) for layer in graph.writers(variable)], 1).double()
    if norm == "random":
        return torch.rand(len(weights), generator=generator)
    return torch.linalg.vector_norm(weights, 1 if norm == "l1" else 2, dim=1)


def _kept(sizes: Tensor, share: float) -> Tensor:
    count = max(1, len(sizes) - int(share * len(sizes) + 0.5))
    return sizes.topk(count).indices.sort().values


def _selected(graph: Graph, state: State, kept: dict[str, Tensor]) -> dict[str, Tensor]:
    selected = {}
    widths = graph.widths(state)
    for name, axes in graph.axes(state).items():
        tensor = state[name]
        for place, axis in enumerate(axes):
            if axis is None or axis.variable not in kept:
                continue
            inner = tensor.shape[place] // widths[axis.variable]
            rows = kept[axis.variable][:, None] * inner + torch.arange(inner)
            tensor = tensor.index_select(place, rows.flatten().to(tensor.device))
        selected[name] = tensor
    return selected
