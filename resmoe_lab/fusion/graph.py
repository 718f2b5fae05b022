"""The coupling variables of a network: which axes of which tensors belong to the same neurons."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from torch import Tensor

from .._core.errors import UsageError

#: A variable's name; None for neurons whose order is fixed: inputs and classes.
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
        neuron has its own entries (batch norm, layer norm, depthwise convolution).
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
        The variable whose neurons lie along the axis.
    incoming
        True for the inputs of a layer, False for its outputs.
    """

    variable: str
    incoming: bool


@dataclass(frozen=True)
class Graph:
    """The coupling variables of a network.

    Attributes
    ----------
    layers
        All layers, in the order of the forward pass.
    mixes
        Sums of two residual streams whose couplings are averaged, by name; empty if every residual stream has one
        shared coupling.

    Notes
    -----
    A permutation of a variable's neurons along all its axes does not change the network's function. These graphs are
    like the permutation specifications of Git Re-Basin, arXiv 2209.04836.
    """

    layers: tuple[Layer, ...]
    mixes: Mapping[str, tuple[str, str]] = field(default_factory=dict)

    @property
    def variables(self) -> tuple[str, ...]:
        """Variables that layers write, in the order of the forward pass, without mixes."""
        return tuple(dict.fromkeys(layer.out for layer in self.layers if layer.kind == "dense" and layer.out))

    def writers(self, variable: str) -> list[Layer]:
        """Return the dense layers whose outputs are a variable's neurons."""
        return [layer for layer in self.layers if layer.kind == "dense" and layer.out == variable]

    def probes(self, variable: str) -> list[str]:
        """Return the modules whose outputs are the pre-activations of a variable, one for each writer.

        If a norm follows a layer, the nonlinearity is applied to the norm's output.
        """
        modules: list[str] = []
        for layer in self.layers:
            if layer.out == variable and layer.kind == "dense":
                modules.append(layer.name)
            elif layer.out == variable and modules:
                modules[-1] = layer.name
        return modules

    def axes(self, state: State) -> dict[str, tuple[Axis | None, ...]]:
        """Return the variable of every axis of every tensor; None for an axis of fixed order.

        Raises
        ------
        UsageError
            If a tensor belongs to no layer of the graph, or a layer is missing.
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
        """Return the number of neurons of every variable."""
        widths = {variable: len(state[f"{self.writers(variable)[0].name}.weight"]) for variable in self.variables}
        for mix, (first, _) in self.mixes.items():
            widths[mix] = widths[first]
        return widths
