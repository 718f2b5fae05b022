"""The graph of a network, derived by following its forward pass with torch.fx."""

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

#: Work on every neuron by itself, so that the neurons' order passes through them.
_PASSING_MODULES = (
    *(nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.CELU, nn.SELU, nn.GELU, nn.SiLU, nn.Mish, nn.Tanh, nn.Sigmoid),
    *(nn.Softplus, nn.Hardtanh, nn.Hardswish, nn.Identity, nn.Dropout, nn.Dropout2d, nn.Softmax, nn.LogSoftmax),
    *(nn.MaxPool1d, nn.MaxPool2d, nn.AvgPool1d, nn.AvgPool2d, nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d),
    nn.AdaptiveMaxPool2d,
)
_PASSING_FUNCTIONS = (
    *(torch.relu, torch.tanh, torch.sigmoid, functional.relu, functional.leaky_relu, functional.elu, functional.gelu),
    *(functional.silu, functional.dropout, functional.max_pool2d, functional.avg_pool2d, functional.softmax),
    *(functional.adaptive_avg_pool2d, functional.log_softmax, torch.log_softmax, torch.softmax),
    *(operator.mul, operator.truediv, operator.neg),
)
_PASSING_METHODS = ("relu", "relu_", "tanh", "sigmoid", "contiguous", "softmax", "log_softmax", "clone")
_ADDING = (operator.add, operator.iadd, torch.add, "add", "add_")
#: Numbers taken from an activation's shape, and what may be reckoned with them alone.
_SHAPES = ("size", "dim", getattr)
_RECKONING = (operator.getitem, operator.floordiv, operator.mul, operator.add, operator.sub, operator.neg)
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.LayerNorm)


@dataclass(frozen=True)
class _Value:
    """What a node of the forward pass holds: neurons of a variable, one number each or (`maps`) an image each."""

    variable: Variable
    maps: bool = False


class _Reader:
    """Walks once through a forward pass and collects layers."""

    def __init__(self, network: nn.Module, residual: Residual) -> None:
        self.modules = dict(network.named_modules())
        self.residual = residual
        self.layers: list[Layer] = []
        self.mixes: dict[str, tuple[str, str]] = {}
        self.same: dict[str, Variable] = {}
        self.values: dict[fx.Node, _Value] = {}
        self.numbers: set[fx.Node] = set()

    def read(self, graph: fx.Graph) -> Graph:
        for node in graph.nodes:
            if node.op == "placeholder":
                self.values[node] = _Value(None)
            elif node.op == "get_attr":
                raise UsageError(
                    f"the forward pass uses the bare tensor {node.target!r}, expected modules alone: {_HINT}"
                )
            elif node.op == "output":
                self._end(node)
            else:
                value = self._module(node) if node.op == "call_module" else self._call(node)
                if value is None:
                    self.numbers.add(node)
                else:
                    self.values[node] = value
        layers = [replace(layer, into=self._find(layer.into), out=self._find(layer.out)) for layer in self.layers]
        return Graph(tuple(layers), self.mixes)

    def _find(self, variable: Variable) -> Variable:
        while variable is not None and variable in self.same:
            variable = self.same[variable]
        return variable

    def _operands(self, node: fx.Node) -> list[_Value]:
        return [self.values[other] for other in node.all_input_nodes if other in self.values]

    def _end(self, node: fx.Node) -> None:
        for value in self._operands(node):
            final = self._find(value.variable)
            if final is None:
                continue
            if final in self.mixes:
                raise _unsupported(
                    "the sum that the network ends with", "the output's order is fixed: end with a layer"
                )
            self.same[final] = None

    def _module(self, node: fx.Node) -> _Value:
        name, module = str(node.target), self.modules[str(node.target)]
        operands = self._operands(node)
        if len(operands) != 1:
            raise _unsupported(f"{name!r}, which takes {len(operands)} activations", "expected one")
        value = operands[0]
        if isinstance(module, nn.Flatten):
            return self._flatten(value, (module.start_dim, module.end_dim) == (1, -1), name)
        if isinstance(module, _PASSING_MODULES):
            return value
        if any(layer.name == name for layer in self.layers):
            raise _unsupported(f"{name!r}, which is used twice", "give it one place in the forward pass")
        if isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d):
            return self._dense(name, module, value)
        if isinstance(module, _NORMS):
            if isinstance(module, nn.LayerNorm) and (value.maps or len(module.normalized_shape) > 1):
                raise _unsupported(f"{name!r}, a LayerNorm over maps", "normalise channels")
            self.layers.append(Layer(name, "each", value.variable, value.variable))
            return value
        known = "Linear, Conv1d, Conv2d, BatchNorm, LayerNorm, activations, poolings, Dropout and Flatten"
        raise _unsupported(f"{name!r}, a {type(module).__name__}", f"expected {known}")

    def _dense(self, name: str, module: nn.Linear | nn.Conv1d | nn.Conv2d, value: _Value) -> _Value:
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
        return _Value(name, maps=not isinstance(module, nn.Linear))

    def _call(self, node: fx.Node) -> _Value | None:
        what, operands = node.target, self._operands(node)
        if what in _SHAPES and (what is not getattr or node.args[1] == "shape"):
            return None
        if what in _RECKONING and not operands and set(node.all_input_nodes) <= self.numbers:
            return None
        if operands and all(self._find(value.variable) is None for value in operands):
            return _Value(None)
        if what in _ADDING and len(operands) == 2:
            return _Value(self._sum(*operands), operands[0].maps)
        if operands and (what in _PASSING_FUNCTIONS or what in _PASSING_METHODS or what in _ADDING):
            if len(operands) == 1:
                return operands[0]
            raise _unsupported(f"{node.name!r}, a product of two activations", "expected sums of streams alone")
        if len(operands) == 1 and what in (torch.flatten, "flatten"):
            return self._flatten(operands[0], _arguments(node, "start_dim", "end_dim") in ([1], [1, -1]), node.name)
        if len(operands) == 1 and what in ("view", "reshape", torch.reshape):
            return self._flatten(operands[0], len(_arguments(node)) == 2, node.name)
        if len(operands) == 1 and what in ("mean", torch.mean):
            dims = _arguments(node, "dim")[:1]
            over = sorted(dims[0]) if dims and isinstance(dims[0], list | tuple) else dims
            if over in ([2, 3], [-2, -1]):
                return _Value(operands[0].variable)
        name = what if isinstance(what, str) else getattr(what, "__name__", str(what))
        raise _unsupported(f"{node.name!r}, a call of {name}", "expected activations, poolings, flattening and sums")

    def _flatten(self, value: _Value, plain: bool, name: str) -> _Value:
        if value.variable is not None and not plain:
            raise _unsupported(f"{name!r}, which reshapes hidden neurons", "expected to flatten from dimension 1 on")
        return _Value(value.variable)

    def _sum(self, first: _Value, second: _Value) -> Variable:
        a, b = self._find(first.variable), self._find(second.variable)
        if a == b:
            return a
        if a is None or b is None:
            fixed = a or b
            if fixed in self.mixes:
                raise _unsupported(f"a sum of the inputs and {fixed!r}", "share the couplings of residual streams")
            self.same[str(fixed)] = None
            return None
        if self.residual == "average":
            # The stream that was there first is the shortcut.
            names = self._in_order(a, b)
            self.mixes["+".join(names)] = names
            return "+".join(names)
        older, newer = self._in_order(a, b)
        self.same[newer] = older
        return older

    def _in_order(self, a: str, b: str) -> tuple[str, str]:
        """The older stream first, told by where its first part was written."""
        place = {layer.name: index for index, layer in enumerate(self.layers)}
        return (a, b) if place[a.split("+")[0]] < place[b.split("+")[0]] else (b, a)


_HINT = "write its Graph by hand and pass it as graph"


def _unsupported(what: str, advice: str) -> UsageError:
    return UsageError(f"no graph can be derived through {what}: {advice}, or {_HINT}")


def _arguments(node: fx.Node, *keywords: str) -> list[Any]:
    """Return a call's arguments after the tensor."""
    given = [*node.args[1:], *(node.kwargs[name] for name in keywords if name in node.kwargs)]
    if len(given) == 1 and isinstance(given[0], list | tuple) and not keywords:
        return list(given[0])
    return given


def trace_graph(network: nn.Module, *, residual: Residual = "shared") -> Graph:
    """Derive the coupling variables of a feed-forward network.

    Parameters
    ----------
    network
        Linear layers, convolutions (also depth-wise), batch and layer norms, activations, poolings, flattening, sums.
    residual
        ``"shared"``: the streams of a residual sum have one coupling. ``"average"``: each keeps its own, and what
        follows takes their average, as in the paper.

    Returns
    -------
    Graph
        A variable is called after the first layer that writes it.

    Raises
    ------
    UsageError
        If the network does something else, naming the place; or if `residual` is unknown.

    Notes
    -----
    torch.fx replaces the call of every module in the process while it traces: no other thread may run one meanwhile.
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
    return _Reader(network, residual).read(graph)
