"""Stacked networks of N marginals: every layer is one batched product of (N, M, D) points.

Many small networks in a Python loop are dominated by overhead; stacked along a first axis they are as fast as one.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from .convex import ConvexShape, ConvexWeights, Layer, convex_gradients, convex_values


class StackedMLP(nn.Module):
    """N fully connected networks of one shape.

    Parameters
    ----------
    count
        N.
    sizes
        Widths from input to output.
    skip
        Whether a linear map of the input is added to the output. If both have the same width, the map is initialized as
        the identity, and the last layer is scaled down.
    quadratic
        Whether a symmetric quadratic form of the input is added (for scalar outputs), initialized as zero.
    """

    def __init__(self, count: int, sizes: Sequence[int], *, skip: bool = False, quadratic: bool = False) -> None:
        super().__init__()
        shapes = list(pairwise(sizes))
        self.weights = nn.ParameterList(_weights(count, fan_in, fan_out) for fan_in, fan_out in shapes)
        self.biases = nn.ParameterList(torch.zeros(count, 1, fan_out) for _, fan_out in shapes)
        first, last = sizes[0], sizes[-1]
        self.linear = nn.Parameter(torch.eye(first, last).repeat(count, 1, 1)) if skip else None
        self.form = nn.Parameter(torch.zeros(count, first, first)) if quadratic else None
        if skip:
            with torch.no_grad():
                self.weights[-1].mul_(0.1)

    def forward(self, points: Tensor) -> Tensor:
        """Map (N, M, D) points to (N, M, width)."""
        hidden = points
        last = len(self.weights) - 1
        for index, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            hidden = torch.baddbmm(bias, hidden, weight)
            if index < last:
                hidden = torch.nn.functional.silu(hidden)
        if self.linear is not None:
            hidden = torch.baddbmm(hidden, points, self.linear)
        if self.form is not None:
            symmetric = self.form + self.form.mT
            hidden = hidden + 0.5 * (torch.bmm(points, symmetric) * points).sum(dim=-1, keepdim=True)
        return hidden

    def input_gradient(self, points: Tensor) -> Tensor:
        """Return the gradients of scalar networks at (N, M, D) points, detached: (N, M, D)."""
        inputs = points.detach().requires_grad_(True)
        with torch.enable_grad():
            (gradient,) = torch.autograd.grad(self(inputs).sum(), inputs)
        return gradient


class StackedICNN(nn.Module):
    """N input-convex neural networks with gradients in closed form (see :mod:`~resmoe_lab.neural.convex`).

    CELU is convex and non-decreasing, so f is convex if all W_l and w are non-negative (squared CELU, in the first
    layer of the published code, is concave left of -ln 2). The quadratic term is convex for every Q; it makes the
    gradient surjective, and initializes it as the identity.

    Parameters
    ----------
    count, dimension
        N and D.
    widths
        Hidden widths.
    """

    def __init__(self, count: int, dimension: int, widths: Sequence[int]) -> None:
        super().__init__()
        self.shape = ConvexShape(dimension, tuple(widths))
        outs = self.shape.outputs
        inputs = [_weights(count, dimension, fan_out) for fan_out in outs]
        hiddens = [torch.rand(count, fan_in, fan_out) / fan_in for fan_in, fan_out in pairwise(outs)]
        hiddens[-1].mul_(0.1)
        inputs[-1].zero_()
        biases = [torch.zeros(count, 1, fan_out) for fan_out in outs]
        layers = [Layer(*parts) for parts in zip(inputs, [None, *hiddens], biases, strict=True)]
        form = torch.eye(dimension).repeat(count, 1, 1)
        self.flat = nn.Parameter(self.shape.join(ConvexWeights(layers, form)))

    def flat_weights(self) -> Tensor:
        """Return the weights as one matrix, (N, P)."""
        return self.flat

    def weights(self) -> ConvexWeights:
        """Return the weights as they are applied, as views."""
        return self.shape.split(self.flat)

    def forward(self, points: Tensor) -> Tensor:
        """Return f at (N, M, D) points: (N, M)."""
        return convex_values(points, self.weights())

    def gradient(self, points: Tensor) -> Tensor:
        """Return the gradient of f at (N, M, D) points, which is differentiable: (N, M, D)."""
        return convex_gradients(points, self.weights())[0]

    def penalty(self) -> Tensor:
        """Return the sum of the squared negative parts of the weights that must be non-negative, (N,)."""
        return self.flat[:, : self.shape.num_hidden].clamp(max=0).square().sum(dim=1)

    @torch.no_grad()
    def add_penalty_gradient(self, factors: Tensor) -> None:
        """Add the gradient of the penalties times (N,) factors to that of the weights."""
        hidden = slice(self.shape.num_hidden)
        assert self.flat.grad is not None
        self.flat.grad[:, hidden].addcmul_(self.flat[:, hidden].clamp(max=0), factors.unsqueeze(-1), value=2)

    @torch.no_grad()
    def clip(self) -> None:
        """Project to convex networks: W_l = max(W_l, 0)."""
        self.flat[:, : self.shape.num_hidden].clamp_(min=0)


class StackedPICNN(nn.Module):
    """N partially input-convex neural networks, convex in the point but not in the condition.

    The condition scales the inputs of every layer, by non-negative factors if convexity needs them (Amos, Xu and Kolter
    2017, section 3.2). A batch has one condition for many points, so the weights are scaled instead.

    Parameters
    ----------
    count, dimension, condition
        N, D and the condition's width.
    widths
        Hidden widths.
    """

    def __init__(self, count: int, dimension: int, widths: Sequence[int], *, condition: int) -> None:
        super().__init__()
        self.net = StackedICNN(count, dimension, widths)
        self.shape = self.net.shape
        width = max(widths)
        scales = dimension * (len(self.shape.outputs) + 1) + sum(widths)
        self.context = StackedMLP(count, [condition, width, width, scales + sum(self.shape.outputs)])
        with torch.no_grad():
            self.context.weights[-1].mul_(0.1)

    def flat_weights(self, conditions: Tensor) -> Tensor:
        """Return the weights of B * N networks under (B, condition) conditions as one matrix, (B * N, P)."""
        return self.shape.join(self.weights(conditions))

    def weights(self, conditions: Tensor) -> ConvexWeights:
        """Return the weights of B * N networks, scaled by the (B, condition) conditions."""
        net, outs = self.net, list(self.shape.outputs)
        count, repeats = len(net.flat), len(conditions)
        scales = self.context(conditions.expand(count, *conditions.shape)).transpose(0, 1).flatten(0, 1).unsqueeze(-1)
        sizes = [self.shape.dimension] * (len(outs) + 1) + outs[:-1] + outs
        parts = list(scales.split(sizes, dim=1))
        inputs, forms = parts[: len(outs)], parts[len(outs)]
        gates, biases = parts[len(outs) + 1 : 2 * len(outs)], parts[2 * len(outs) :]
        given = self.shape.split(net.flat.repeat(repeats, 1))
        layers: list[Layer] = []
        for index, (layer, shift) in enumerate(zip(given.layers, biases, strict=True)):
            gate = None if layer.hidden is None else layer.hidden * (1 + gates[index - 1]).clamp(min=0)
            layers.append(Layer(layer.inputs * (1 + inputs[index]), gate, layer.bias + shift.mT))
        return ConvexWeights(layers, given.form * (1 + forms))

    def forward(self, points: Tensor, conditions: Tensor) -> Tensor:
        """Return f at (B * N, M, D) points under (B, condition) conditions: (B * N, M)."""
        return convex_values(points, self.weights(conditions))

    def gradient(self, points: Tensor, conditions: Tensor) -> Tensor:
        """Return the gradient in the points: (B * N, M, D)."""
        return convex_gradients(points, self.weights(conditions))[0]

    def penalty(self) -> Tensor:
        """See :class:`StackedICNN`."""
        return self.net.penalty()

    def add_penalty_gradient(self, factors: Tensor) -> None:
        """See :class:`StackedICNN`."""
        self.net.add_penalty_gradient(factors)

    def clip(self) -> None:
        """See :class:`StackedICNN`."""
        self.net.clip()


class Generator(nn.Module):
    """A fully connected network with PReLU.

    Parameters
    ----------
    sizes
        Widths from input to output.
    skip
        Whether a linear map of the input is added to the output; it is initialized as the identity on the first
        ``sizes[-1]`` inputs.
    normalise
        Whether batch normalization precedes each PReLU.
    """

    def __init__(self, sizes: Sequence[int], *, skip: bool = True, normalise: bool = False) -> None:
        super().__init__()
        parts: list[Any] = []
        for index, (fan_in, fan_out) in enumerate(pairwise(sizes)):
            if index:
                parts += [*([nn.BatchNorm1d(fan_in)] if normalise else []), nn.PReLU()]
            parts.append(nn.Linear(fan_in, fan_out))
        self.net = nn.Sequential(*parts)
        self.linear = nn.Parameter(torch.eye(sizes[-1], sizes[0])) if skip else None
        if skip:
            with torch.no_grad():
                parts[-1].weight.mul_(0.1)

    def forward(self, noise: Tensor) -> Tensor:
        """Map (M, inputs) to (M, outputs)."""
        out: Tensor = self.net(noise)
        return out if self.linear is None else out + linear(noise, self.linear)


def _weights(count: int, fan_in: int, fan_out: int) -> Tensor:
    return torch.randn(count, fan_in, fan_out) / fan_in**0.5
