"""Stacked networks of N marginals: every layer is one batched product of (N, M, D) points.

Many small networks in a Python loop are dominated by overhead; stacked along a first axis they are as fast as one.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import celu, linear

#: One layer of a convex network as it is applied: (N, D, H), (N, H_before, H) or None, (N, 1, H).
Layer = tuple[Tensor, Tensor | None, Tensor]


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
    r"""N input-convex neural networks with gradients in closed form.

    .. math:: z_1 = \sigma(A_0 x + b_0), \quad z_{l+1} = \sigma(W_l z_l + A_l x + b_l), \quad
              f(x) = w \cdot z_L + a \cdot x + \tfrac12 |Q x|^2

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
        outs = [*widths, 1]
        self.inputs = nn.ParameterList(_weights(count, dimension, fan_out) for fan_out in outs)
        self.hiddens = nn.ParameterList(
            torch.rand(count, fan_in, fan_out) / fan_in for fan_in, fan_out in pairwise(outs)
        )
        self.biases = nn.ParameterList(torch.zeros(count, 1, fan_out) for fan_out in outs)
        self.form = nn.Parameter(torch.eye(dimension).repeat(count, 1, 1))
        with torch.no_grad():
            self.hiddens[-1].mul_(0.1)
            self.inputs[-1].zero_()

    def layers(self) -> list[Layer]:
        """Return the layers in the order in which they are applied."""
        return list(zip(self.inputs, [None, *self.hiddens], self.biases, strict=True))

    def forward(self, points: Tensor) -> Tensor:
        """Return f at (N, M, D) points: (N, M)."""
        return icnn_value(points, self.layers(), self.form)

    def gradient(self, points: Tensor) -> Tensor:
        """Return the gradient of f at (N, M, D) points, which is differentiable: (N, M, D)."""
        return icnn_gradient(points, self.layers(), self.form)

    def penalty(self) -> Tensor:
        """Return the sum of the squared negative parts of the weights that must be non-negative, (N,)."""
        parts = [weight.clamp(max=0).square().sum(dim=(1, 2)) for weight in self.hiddens]
        return torch.stack(parts).sum(dim=0)

    @torch.no_grad()
    def clip(self) -> None:
        """Project to convex networks: W_l = max(W_l, 0)."""
        for weight in self.hiddens:
            weight.clamp_(min=0)


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
        width = max(widths)
        self._outs = [*widths, 1]
        scales = dimension * (len(self._outs) + 1) + sum(widths)
        self.context = StackedMLP(count, [condition, width, width, scales + sum(self._outs)])
        with torch.no_grad():
            self.context.weights[-1].mul_(0.1)

    def _conditioned_layers(self, conditions: Tensor) -> tuple[list[Layer], Tensor]:
        """Return the layers and the form of B * N networks, scaled by the (B, condition) conditions."""
        net, count = self.net, len(self.net.form)
        scales = self.context(conditions.expand(count, *conditions.shape)).transpose(0, 1).flatten(0, 1).unsqueeze(-1)
        dimension, repeats = net.form.shape[1], len(conditions)
        sizes = [dimension] * (len(self._outs) + 1) + self._outs[:-1] + self._outs
        parts = list(scales.split(sizes, dim=1))
        inputs, forms = parts[: len(self._outs)], parts[len(self._outs)]
        gates, biases = parts[len(self._outs) + 1 : 2 * len(self._outs)], parts[2 * len(self._outs) :]

        def repeat(weight: Tensor) -> Tensor:
            return weight.repeat(repeats, 1, 1)

        layers: list[Layer] = []
        for index, shift in enumerate(biases):
            hidden = None if index == 0 else repeat(net.hiddens[index - 1]) * (1 + gates[index - 1]).clamp(min=0)
            input_weight = repeat(net.inputs[index]) * (1 + inputs[index])
            layers.append((input_weight, hidden, repeat(net.biases[index]) + shift.mT))
        return layers, repeat(net.form) * (1 + forms)

    def forward(self, points: Tensor, conditions: Tensor) -> Tensor:
        """Return f at (B * N, M, D) points under (B, condition) conditions: (B * N, M)."""
        return icnn_value(points, *self._conditioned_layers(conditions))

    def gradient(self, points: Tensor, conditions: Tensor) -> Tensor:
        """Return the gradient in the points: (B * N, M, D)."""
        return icnn_gradient(points, *self._conditioned_layers(conditions))

    def penalty(self) -> Tensor:
        """See :class:`StackedICNN`."""
        return self.net.penalty()

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


def icnn_value(points: Tensor, layers: Sequence[Layer], form: Tensor) -> Tensor:
    """Evaluate N convex networks at (N, M, D) points: (N, M)."""
    hidden = None
    for input_weight, weight, bias in layers[:-1]:
        hidden = celu(_sum(points, input_weight, hidden=hidden, weight=weight, bias=bias))
    input_weight, weight, bias = layers[-1]
    last = _sum(points, input_weight, hidden=hidden, weight=weight, bias=bias)
    return last.squeeze(-1) + 0.5 * torch.bmm(points, form).square().sum(dim=-1)


def icnn_gradient(points: Tensor, layers: Sequence[Layer], form: Tensor) -> Tensor:
    """Differentiate N convex networks at (N, M, D) points: (N, M, D)."""
    hidden, derivatives = None, []
    for input_weight, weight, bias in layers[:-1]:
        preactivation = _sum(points, input_weight, hidden=hidden, weight=weight, bias=bias)
        # CELU's derivative is exp(x) for negative x, and 1 otherwise.
        derivatives.append(preactivation.clamp(max=0).exp())
        hidden = celu(preactivation)
    input_weight, last_hidden, _ = layers[-1]
    gradient = torch.bmm(torch.bmm(points, form), form.mT) + input_weight.mT
    assert last_hidden is not None
    backpropagated = last_hidden.mT
    for (input_weight, weight, _), derivative in zip(reversed(layers[:-1]), reversed(derivatives), strict=True):
        backpropagated = backpropagated * derivative
        gradient = torch.baddbmm(gradient, backpropagated, input_weight.mT)
        if weight is not None:
            backpropagated = torch.bmm(backpropagated, weight.mT)
    return gradient


def _sum(points: Tensor, input_weight: Tensor, *, hidden: Tensor | None, weight: Tensor | None, bias: Tensor) -> Tensor:
    total = torch.baddbmm(bias, points, input_weight)
    return total if hidden is None or weight is None else torch.baddbmm(total, hidden, weight)


def _weights(count: int, fan_in: int, fan_out: int) -> Tensor:
    return torch.randn(count, fan_in, fan_out) / fan_in**0.5
