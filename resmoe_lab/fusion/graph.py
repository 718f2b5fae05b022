"""Which axes of which tensors carry the same neurons: the variables that an alignment may choose."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from torch import Tensor

from .._core.errors import UsageError

#: A variable's name; None stands for neurons that have a fixed order: inputs and classes.
Variable = str | None
State = Mapping[str, Tensor]


@dataclass(frozen=True)
class Layer:
    """One module with tensors.

    Attributes
    ----------
    name
        Its path in the network.
    kind
        ``"dense"``: its weight has an axis of outputs and an axis of inputs (linear, convolution). ``"each"``: every
        neuron has entries of its own (batch norm, layer norm, depth-wise convolution).
    into, out
        The variables of its inputs and outputs.
    """

    name: str
    kind: Literal["dense", "each"]
    into: Variable
    out: Variable


@dataclass(frozen=True)
class Axis:
    """One axis of one tensor.

    Attributes
    ----------
    variable
        Whose neurons lie along it.
    incoming
        True for the inputs of a layer, False for its own neurons.
    """

    variable: str
    incoming: bool


@dataclass(frozen=True)
class Graph:
    """The coupling variables of a network.

    Attributes
    ----------
    layers
        In the order of the forward pass.
    mixes
        Variables that are sums of two streams whose couplings are averaged, by name; empty where every residual
        stream has one shared coupling.

    Notes
    -----
    A permutation of a variable's neurons, done along every axis that carries it, leaves the network's function as it
    is. In the spirit of Git Re-Basin's specifications, arXiv 2209.04836.
    """

    layers: tuple[Layer, ...]
    mixes: Mapping[str, tuple[str, str]] = field(default_factory=dict)

    @property
    def variables(self) -> tuple[str, ...]:
        """Variables that layers write, in the order of the forward pass; mixes are not among them."""
        return tuple(dict.fromkeys(layer.out for layer in self.layers if layer.kind == "dense" and layer.out))

    def writers(self, variable: str) -> list[Layer]:
        """Return the dense layers whose outputs are the neurons of a variable."""
        return [layer for layer in self.layers if layer.kind == "dense" and layer.out == variable]

    def probes(self, variable: str) -> list[str]:
        """Return the modules whose outputs are the pre-activations of a variable, one a writer.

        Where a norm follows a layer, it is what the nonlinearity sees.
        """
        found: list[str] = []
        for layer in self.layers:
            if layer.out == variable and layer.kind == "dense":
                found.append(layer.name)
            elif layer.out == variable and found:
                found[-1] = layer.name
        return found

    def axes(self, state: State) -> dict[str, tuple[Axis | None, ...]]:
        """Return the meaning of every axis of every tensor; None for one that never moves.

        Raises
        ------
        UsageError
            If the network has a tensor that no layer of the graph owns, or lacks a layer.
        """
        owners = {layer.name: layer for layer in self.layers}
        missing = sorted(name for name in owners if not any(key.rpartition(".")[0] == name for key in state))
        if missing:
            raise UsageError(f"the network has no layer {missing[0]!r}, expected all of its graph: use its own graph")
        axes = {}
        for name, tensor in state.items():
            owner = owners.get(name.rpartition(".")[0])
            if owner is None:
                raise UsageError(f"tensor {name!r} belongs to no layer of the graph, expected every tensor to have one")
            axes[name] = self._axes(owner, name, tensor.ndim)
        return axes

    def _axes(self, owner: Layer, name: str, ndim: int) -> tuple[Axis | None, ...]:
        axes: list[Axis | None] = [None] * ndim
        if ndim and owner.out is not None:
            axes[0] = Axis(owner.out, incoming=False)
        if owner.kind == "dense" and name.endswith(".weight") and owner.into is not None:
            axes[1] = Axis(owner.into, incoming=True)
        return tuple(axes)

    def widths(self, state: State) -> dict[str, int]:
        """Return how many neurons every variable has."""
        widths = {variable: len(state[f"{self.writers(variable)[0].name}.weight"]) for variable in self.variables}
        for mix, (first, _) in self.mixes.items():
            widths[mix] = widths[first]
        return widths
