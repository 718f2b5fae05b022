"""Derivation of a network's graph by tracing its forward pass with torch.fx."""

from __future__ import annotations

import operator
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import fx, nn
from torch.nn import functional

from .._core.errors import UsageError
from .graph import Graph, Layer, Variable

Residual = Literal["shared", "average"]

#: Elementwise in neurons, so that they keep the neurons' order.
_ELEMENTWISE_MODULES = (
    *(nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.CELU, nn.SELU, nn.GELU, nn.SiLU, nn.Mish, nn.Tanh, nn.Sigmoid),
    *(nn.Softplus, nn.Hardtanh, nn.Hardswish, nn.Identity, nn.Dropout, nn.Dropout2d, nn.Softmax, nn.LogSoftmax),
    *(nn.MaxPool1d, nn.MaxPool2d, nn.AvgPool1d, nn.AvgPool2d, nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d),
    nn.AdaptiveMaxPool2d,
)
_ELEMENTWISE_FUNCTIONS = (
    *(torch.relu, torch.tanh, torch.sigmoid, functional.relu, functional.leaky_relu, functional.elu, functional.gelu),
    *(functional.silu, functional.dropout, functional.max_pool2d, functional.avg_pool2d, functional.softmax),
    *(functional.adaptive_avg_pool2d, functional.log_softmax, torch.log_softmax, torch.softmax),
    *(operator.mul, operator.truediv, operator.neg),
)
_ELEMENTWISE_METHODS = ("relu", "relu_", "tanh", "sigmoid", "contiguous", "softmax", "log_softmax", "clone")
_ADDITIONS = (operator.add, operator.iadd, torch.add, "add", "add_")
#: Functions that return numbers from an activation's shape, and arithmetic on such numbers.
_SHAPE_FUNCTIONS = ("size", "dim", getattr)
_ARITHMETIC = (operator.getitem, operator.floordiv, operator.mul, operator.add, operator.sub, operator.neg)
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.LayerNorm)


@dataclass(frozen=True)
class _Activation:
    """The activations at a node: of a variable's neurons, one number each or (`maps`) a feature map each."""

    variable: Variable
    maps: bool = False


class _GraphBuilder:
    """Walks once through a traced forward pass and collects its layers."""

    def __init__(self, network: nn.Module, residual: Residual) -> None:
        self.modules = dict(network.named_modules())
        self.residual = residual
        self.layers: list[Layer] = []
        self.mixes: dict[str, tuple[str, str]] = {}
        self.merged: dict[str, Variable] = {}
        self.values: dict[fx.Node, _Activation] = {}
        self.scalars: set[fx.Node] = set()

    def build(self, graph: fx.Graph) -> Graph:
        for node in graph.nodes:
            if node.op == "placeholder":
                self.values[node] = _Activation(None)
            elif node.op == "get_attr":
                raise UsageError(
                    f"the forward pass uses the bare tensor {node.target!r}, expected modules alone: {_HINT}"
                )
            elif node.op == "output":
                self._fix_output(node)
            else:
                value = self._call_module(node) if node.op == "call_module" else self._call_function(node)
                if value is None:
                    self.scalars.add(node)
                else:
                    self.values[node] = value
        layers = [replace(layer, into=self._find(layer.into), out=self._find(layer.out)) for layer in self.layers]
        return Graph(tuple(layers), self.mixes)

    def _find(self, variable: Variable) -> Variable:
        while variable is not None and variable in self.merged:
            variable = self.merged[variable]
        return variable

    def _operands(self, node: fx.Node) -> list[_Activation]:
        return [self.values[other] for other in node.all_input_nodes if other in self.values]

    def _fix_output(self, node: fx.Node) -> None:
        for value in self._operands(node):
            final = self._find(value.variable)
            if final is None:
                continue
            if final in self.mixes:
                raise _unsupported(
                    "the sum that the network ends with", "the output's order is fixed: end with a layer"
                )
            self.merged[final] = None

    def _call_module(self, node: fx.Node) -> _Activation:
        name, module = str(node.target), self.modules[str(node.target)]
        operands = self._operands(node)
        if len(operands) != 1:
            raise _unsupported(f"{name!r}, which takes {len(operands)} activations", "expected one")
        value = operands[0]
        if isinstance(module, nn.Flatten):
            return self._flatten(value, (module.start_dim, module.end_dim) == (1, -1), name)
        if isinstance(module, _ELEMENTWISE_MODULES):
            return value
        if any(layer.name == name for layer in self.layers):
            raise _unsupported(f"{name!r}, which is used twice", "give it one place in the forward pass")
        if isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d):
            return self._dense(name, module, value)
        if isinstance(module, _NORMS):
            if isinstance(module, nn.LayerNorm) and (value.maps or len(module.normalized_shape) > 1):
                raise _unsupported(f"{name!r}, a LayerNorm over maps", "normalize channels")
            self.layers.append(Layer(name, "each", value.variable, value.variable))
            return value
        supported = "Linear, Conv1d, Conv2d, BatchNorm, LayerNorm, activations, poolings, Dropout and Flatten"
        raise _unsupported(f"{name!r}, a {type(module).__name__}", f"expected {supported}")

    def _dense(self, name: str, module: nn.Linear | nn.Conv1d | nn.Conv2d, value: _Activation) -> _Activation:
        if isinstance(module, nn.Linear):
            if value.maps:
                raise _unsupported(f"{name!r}, a Linear on maps", "flatten them first")
        elif module.groups > 1:
            if not module.groups == module.in_channels == module.out_channels:
                raise _unsupported(
                    f"{name!r}, a convolution in {module.groups} groups", "expected one group or depth-wise"
                )
            self.layers.append(Layer(name, "each", value.variable, value.variable))
            return value
        self.layers.append(Layer(name, "dense", value.variable, name))
        return _Activation(name, maps=not isinstance(module, nn.Linear))

    def _call_function(self, node: fx.Node) -> _Activation | None:
        function, operands = node.target, self._operands(node)
        if function in _SHAPE_FUNCTIONS and (function is not getattr or node.args[1] == "shape"):
            return None
        if function in _ARITHMETIC and not operands and set(node.all_input_nodes) <= self.scalars:
            return None
        if operands and all(self._find(value.variable) is None for value in operands):
            return _Activation(None)
        if function in _ADDITIONS and len(operands) == 2:
            return _Activation(self._sum(*operands), operands[0].maps)
        if operands and (
            function in _ELEMENTWISE_FUNCTIONS or function in _ELEMENTWISE_METHODS or function in _ADDITIONS
        ):
            if len(operands) == 1:
                return operands[0]
            raise _unsupported(f"{node.name!r}, a product of two activations", "expected sums of streams alone")
        if len(operands) == 1 and function in (torch.flatten, "flatten"):
            return self._flatten(operands[0], _arguments(node, "start_dim", "end_dim") in ([1], [1, -1]), node.name)
        if len(operands) == 1 and function in ("view", "reshape", torch.reshape):
            return self._flatten(operands[0], len(_arguments(node)) == 2, node.name)
        if len(operands) == 1 and function in ("mean", torch.mean):
            dims = _arguments(node, "dim")[:1]
            axes = sorted(dims[0]) if dims and isinstance(dims[0], list | tuple) else dims
            if axes in ([2, 3], [-2, -1]):
                return _Activation(operands[0].variable)
        name = function if isinstance(function, str) else getattr(function, "__name__", str(function))
        raise _unsupported(f"{node.name!r}, a call of {name}", "expected activations, poolings, flattening and sums")

    def _flatten(self, value: _Activation, from_first: bool, name: str) -> _Activation:
        if value.variable is not None and not from_first:
            raise _unsupported(f"{name!r}, which reshapes hidden neurons", "expected to flatten from dimension 1 on")
        return _Activation(value.variable)

    def _sum(self, first: _Activation, second: _Activation) -> Variable:
        a, b = self._find(first.variable), self._find(second.variable)
        if a == b:
            return a
        if a is None or b is None:
            fixed = a or b
            if fixed in self.mixes:
                raise _unsupported(f"a sum of the inputs and {fixed!r}", "share the couplings of residual streams")
            self.merged[str(fixed)] = None
            return None
        if self.residual == "average":
            # The older stream is the shortcut.
            names = self._in_order(a, b)
            self.mixes["+".join(names)] = names
            return "+".join(names)
        older, newer = self._in_order(a, b)
        self.merged[newer] = older
        return older

    def _in_order(self, a: str, b: str) -> tuple[str, str]:
        """Return the stream whose first layer comes first in the forward pass, then the other."""
        position = {layer.name: index for index, layer in enumerate(self.layers)}
        return (a, b) if position[a.split("+")[0]] < position[b.split("+")[0]] else (b, a)


_HINT = "write its Graph by hand and pass it as graph"


def _unsupported(what: str, advice: str) -> UsageError:
    return UsageError(f"no graph can be derived through {what}: {advice}, or {_HINT}")


def _arguments(node: fx.Node, *keywords: str) -> list[Any]:
    """Return the arguments of a call after the tensor."""
    arguments = [*node.args[1:], *(node.kwargs[name] for name in keywords if name in node.kwargs)]
    if len(arguments) == 1 and isinstance(arguments[0], list | tuple) and not keywords:
        return list(arguments[0])
    return arguments


def trace_graph(network: nn.Module, *, residual: Residual = "shared") -> Graph:
    """Derive the coupling variables of a feed-forward network.

    Parameters
    ----------
    network
        Linear layers, convolutions (also depth-wise), batch and layer norms, activations, poolings, flattening, sums.
    residual
        ``"shared"``: the streams of a residual sum have one coupling. ``"average"``: each has its own, and the layers
        that follow use their average, as in the paper.

    Returns
    -------
    Graph
        A variable is named after the first layer that writes it.

    Raises
    ------
    UsageError
        If the network contains something else, or if `residual` is unknown.

    Notes
    -----
    torch.fx patches the call of every module in the process while it traces, so no other thread may call one.

    Examples
    --------
    >>> trace_graph(nn.Sequential(nn.Linear(8, 4), nn.ReLU(), nn.Linear(4, 2))).variables
    ('0',)
    """
    if residual not in ("shared", "average"):
        raise UsageError(f"residual is {residual!r}, expected 'shared' or 'average'")
    try:
        graph = fx.Tracer().trace(network)
    except (fx.proxy.TraceError, TypeError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UsageError(
            f"the forward pass of {type(network).__name__} cannot be followed ({reason}): {_HINT}"
        ) from error
    return _GraphBuilder(network, residual).build(graph)
