"""Networks for N marginals at once: every layer is one batched product, not N small ones.

Many small networks in a Python loop spend their time between the operations; stacked along a first axis they are as
fast as one. All take (N, M, D) points.
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
        Whether a linear map of the input is added to the output; where both have one width it begins as the identity,
        and the network as almost nothing.
    quadratic
        Whether half a symmetric quadratic form of the input is added (for scalar outputs), zero at first.
    """

    def __init__(self, count: int, sizes: Sequence[int], *, skip: bool = False, quadratic: bool = False) -> None:
        super().__init__()
        shapes = list(pairwise(sizes))
        self.weights = nn.ParameterList(_weights(count, fan, wide) for fan, wide in shapes)
        self.biases = nn.ParameterList(torch.zeros(count, 1, wide) for _, wide in shapes)
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
        for place, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            hidden = torch.baddbmm(bias, hidden, weight)
            if place < last:
                hidden = torch.nn.functional.silu(hidden)
        if self.linear is not None:
            hidden = torch.baddbmm(hidden, points, self.linear)
        if self.form is not None:
            symmetric = self.form + self.form.mT
            hidden = hidden + 0.5 * (torch.bmm(points, symmetric) * points).sum(dim=-1, keepdim=True)
        return hidden

    def slope(self, points: Tensor) -> Tensor:
        """Differentiate scalar networks at (N, M, D) points by autograd: (N, M, D), without a graph."""
        places = points.detach().requires_grad_(True)
        with torch.enable_grad():
            (slope,) = torch.autograd.grad(self(places).sum(), places)
        return slope


class StackedICNN(nn.Module):
    r"""N input-convex networks with their gradients in closed form.

    .. math:: z_1 = \sigma(A_0 x + b_0), \quad z_{l+1} = \sigma(W_l z_l + A_l x + b_l), \quad
              f(x) = w \cdot z_L + a \cdot x + \tfrac12 |Q x|^2

    CELU is convex and does not decrease, so that f is convex wherever no W_l and w is negative (squared CELU, which the
    published code has in its first layer, is concave left of -ln 2). The quadratic term is convex whatever Q; it lets
    the gradient be onto, and makes it the identity at first.

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
        self.inputs = nn.ParameterList(_weights(count, dimension, wide) for wide in outs)
        self.hiddens = nn.ParameterList(torch.rand(count, fan, wide) / fan for fan, wide in pairwise(outs))
        self.biases = nn.ParameterList(torch.zeros(count, 1, wide) for wide in outs)
        self.form = nn.Parameter(torch.eye(dimension).repeat(count, 1, 1))
        with torch.no_grad():
            self.hiddens[-1].mul_(0.1)
            self.inputs[-1].zero_()

    def layers(self) -> list[Layer]:
        """The layers as they are applied, first to last."""
        return list(zip(self.inputs, [None, *self.hiddens], self.biases, strict=True))

    def forward(self, points: Tensor) -> Tensor:
        """Return f at (N, M, D) points: (N, M)."""
        return icnn_value(points, self.layers(), self.form)

    def gradient(self, points: Tensor) -> Tensor:
        """Return the gradient of f at (N, M, D) points, itself differentiable once: (N, M, D)."""
        return icnn_gradient(points, self.layers(), self.form)

    def penalty(self) -> Tensor:
        """Sum of the squared negative parts of the weights that ought not to be negative, one a network: (N,)."""
        parts = [weight.clamp(max=0).square().sum(dim=(1, 2)) for weight in self.hiddens]
        return torch.stack(parts).sum(dim=0)

    @torch.no_grad()
    def clip(self) -> None:
        """Make the networks convex: W_l = max(W_l, 0)."""
        for weight in self.hiddens:
            weight.clamp_(min=0)


class StackedPICNN(nn.Module):
    """N networks of a point and a condition, convex in the point only.

    The condition scales what every layer takes in, by factors that are never negative where convexity needs it (Amos,
    Xu and Kolter 2017, section 3.2). A batch has one condition for many points, so the scales are put into the weights.

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

    def _applied(self, conditions: Tensor) -> tuple[list[Layer], Tensor]:
        """Layers and form with the (B, condition) conditions in them, B and N in one axis: B * N networks."""
        net, count = self.net, len(self.net.form)
        told = self.context(conditions.expand(count, *conditions.shape)).transpose(0, 1).flatten(0, 1).unsqueeze(-1)
        dimension, repeats = net.form.shape[1], len(conditions)
        sizes = [dimension] * (len(self._outs) + 1) + self._outs[:-1] + self._outs
        parts = list(told.split(sizes, dim=1))
        inputs, forms = parts[: len(self._outs)], parts[len(self._outs)]
        gates, biases = parts[len(self._outs) + 1 : 2 * len(self._outs)], parts[2 * len(self._outs) :]

        def many(weight: Tensor) -> Tensor:
            return weight.repeat(repeats, 1, 1)

        layers: list[Layer] = []
        for place, shift in enumerate(biases):
            hidden = None if place == 0 else many(net.hiddens[place - 1]) * (1 + gates[place - 1]).clamp(min=0)
            taken = many(net.inputs[place]) * (1 + inputs[place])
            layers.append((taken, hidden, many(net.biases[place]) + shift.mT))
        return layers, many(net.form) * (1 + forms)

    def forward(self, points: Tensor, conditions: Tensor) -> Tensor:
        """Return f at (B * N, M, D) points under (B, condition) conditions: (B * N, M)."""
        return icnn_value(points, *self._applied(conditions))

    def gradient(self, points: Tensor, conditions: Tensor) -> Tensor:
        """Return the gradient in the points: (B * N, M, D)."""
        return icnn_gradient(points, *self._applied(conditions))

    def penalty(self) -> Tensor:
        """As of :class:`StackedICNN`."""
        return self.net.penalty()

    def clip(self) -> None:
        """As of :class:`StackedICNN`."""
        self.net.clip()


class Generator(nn.Module):
    """A fully connected network with PReLU.

    Parameters
    ----------
    sizes
        Widths from input to output.
    skip
        Whether a linear map of the input is added to the output; at first it is the identity on the first
        ``sizes[-1]`` inputs.
    normalise
        Whether batch normalisation stands before each PReLU.
    """

    def __init__(self, sizes: Sequence[int], *, skip: bool = True, normalise: bool = False) -> None:
        super().__init__()
        parts: list[Any] = []
        for place, (fan, wide) in enumerate(pairwise(sizes)):
            if place:
                parts += [*([nn.BatchNorm1d(fan)] if normalise else []), nn.PReLU()]
            parts.append(nn.Linear(fan, wide))
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
    for taken, weight, bias in layers[:-1]:
        hidden = celu(_sum(points, taken, hidden=hidden, weight=weight, bias=bias))
    taken, weight, bias = layers[-1]
    last = _sum(points, taken, hidden=hidden, weight=weight, bias=bias)
    return last.squeeze(-1) + 0.5 * torch.bmm(points, form).square().sum(dim=-1)


def icnn_gradient(points: Tensor, layers: Sequence[Layer], form: Tensor) -> Tensor:
    """Differentiate N convex networks at (N, M, D) points: (N, M, D)."""
    hidden, slopes = None, []
    for taken, weight, bias in layers[:-1]:
        before = _sum(points, taken, hidden=hidden, weight=weight, bias=bias)
        # CELU's derivative: the exponential function left of zero, one right of it.
        slopes.append(before.clamp(max=0).exp())
        hidden = celu(before)
    taken, above, _ = layers[-1]
    gradient = torch.bmm(torch.bmm(points, form), form.mT) + taken.mT
    assert above is not None
    carried = above.mT
    for (taken, weight, _), slope in zip(reversed(layers[:-1]), reversed(slopes), strict=True):
        carried = carried * slope
        gradient = torch.baddbmm(gradient, carried, taken.mT)
        if weight is not None:
            carried = torch.bmm(carried, weight.mT)
    return gradient


def _sum(points: Tensor, taken: Tensor, *, hidden: Tensor | None, weight: Tensor | None, bias: Tensor) -> Tensor:
    total = torch.baddbmm(bias, points, taken)
    return total if hidden is None or weight is None else torch.baddbmm(total, hidden, weight)


def _weights(count: int, fan: int, wide: int) -> Tensor:
    return torch.randn(count, fan, wide) / fan**0.5
