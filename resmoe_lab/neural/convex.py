"""Convex networks as functions of their weights: values, gradients, and the derivatives of both in closed form.

.. math:: z_1 = \\sigma(A_0 x + b_0), \\quad z_{l+1} = \\sigma(W_l z_l + A_l x + b_l), \\quad
          f(x) = w \\cdot z_L + a \\cdot x + b + \\tfrac12 |Q x|^2

with CELU for sigma. N networks are evaluated at once, at M points each. Automatic differentiation of a gradient records
several operations for each of these; the closed forms take half the time for networks as small as those of barycenters.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor


class Layer(NamedTuple):
    """One layer as it is applied: A (N, D, H), W (N, H_before, H) or None for the first layer, b (N, 1, H)."""

    inputs: Tensor
    hidden: Tensor | None
    bias: Tensor


class ConvexWeights(NamedTuple):
    """The weights of N convex networks, or derivatives with respect to them: the last layer has H = 1; Q (N, D, D)."""

    layers: Sequence[Layer]
    form: Tensor


class ConvexShape(NamedTuple):
    """Where the weights of convex networks lie in one matrix (N, P): all W first, then all A, all b, and Q.

    One matrix is one tensor for the optimizer and for compiled functions, which take their time for each.

    Parameters
    ----------
    dimension, widths
        D, and the widths of the hidden layers.
    """

    dimension: int
    widths: tuple[int, ...]

    @property
    def outputs(self) -> tuple[int, ...]:
        """The widths of all layers."""
        return (*self.widths, 1)

    @property
    def num_hidden(self) -> int:
        """The number of columns of all W, which must be non-negative for convexity."""
        return sum(math.prod(pair) for pair in pairwise(self.outputs))

    def shapes(self) -> list[tuple[int, int]]:
        """Return the shapes of the parts in their order."""
        outputs, dimension = self.outputs, self.dimension
        inputs, biases = [(dimension, width) for width in outputs], [(1, width) for width in outputs]
        return [*pairwise(outputs), *inputs, *biases, (dimension, dimension)]

    def split(self, flat: Tensor) -> ConvexWeights:
        """Return the parts of an (N, P) matrix, as views."""
        shapes = self.shapes()
        parts = [
            part.view(-1, *shape)
            for part, shape in zip(flat.split([math.prod(shape) for shape in shapes], dim=1), shapes, strict=True)
        ]
        count = len(self.outputs)
        hiddens, inputs, biases = parts[: count - 1], parts[count - 1 : -1 - count], parts[-1 - count : -1]
        layers = zip(inputs, [None, *hiddens], biases, strict=True)
        return ConvexWeights([Layer(*layer) for layer in layers], parts[-1])

    def join(self, weights: ConvexWeights) -> Tensor:
        """Return weights as an (N, P) matrix."""
        inputs, hiddens, biases = zip(*weights.layers, strict=True)
        parts = [*(weight for weight in hiddens if weight is not None), *inputs, *biases, weights.form]
        return torch.cat([part.flatten(1) for part in parts], dim=1)


class Activations(NamedTuple):
    """What one evaluation leaves: z_l, the derivatives of sigma there, df of what sigma is applied to, and Q x."""

    hidden: list[Tensor]
    slopes: list[Tensor]
    inner: list[Tensor]
    scaled: Tensor


def convex_values(points: Tensor, weights: ConvexWeights) -> Tensor:
    """Evaluate N convex networks at (N, M, D) points: (N, M)."""
    hidden, _ = _hidden_layers(points, weights.layers[:-1])
    inputs, weight, bias = weights.layers[-1]
    assert weight is not None
    last = torch.baddbmm(torch.baddbmm(bias, points, inputs), hidden[-1], weight)
    return last.squeeze(-1) + 0.5 * torch.bmm(points, weights.form).square().sum(dim=-1)


def convex_gradients(points: Tensor, weights: ConvexWeights) -> tuple[Tensor, Activations]:
    """Differentiate N convex networks at (N, M, D) points: (N, M, D), and what :func:`pairing_derivatives` needs."""
    *layers, last = weights.layers
    hidden, slopes = _hidden_layers(points, layers)
    scaled = torch.bmm(points, weights.form)
    gradient = torch.baddbmm(last.inputs.mT, scaled, weights.form.mT)
    inner = _backpropagated(_row(last), layers, slopes)
    for layer, part in zip(layers, inner, strict=True):
        gradient = torch.baddbmm(gradient, part, layer.inputs.mT)
    return gradient, Activations(hidden, slopes, inner, scaled)


def pairing_derivatives(
    points: Tensor, directions: Tensor, weights: ConvexWeights, activations: Activations
) -> ConvexWeights:
    """Differentiate ``sum_m <grad f(x_m), v_m>`` with respect to the weights.

    The pairing is the derivative of f along v, which is computed forwards and then differentiated backwards.

    Parameters
    ----------
    points, directions
        x and v, (N, M, D).
    weights, activations
        Of :func:`convex_gradients` at these points.

    Returns
    -------
    ConvexWeights
        The derivatives; that of the last bias is zero.
    """
    *layers, last = weights.layers
    hidden, slopes, inner, scaled = activations
    moved: list[Tensor] = []  # of every hidden layer along v, after sigma
    bent: list[Tensor] = []  # df/dz_l sigma'' times the layer's movement before sigma
    for index, layer in enumerate(layers):
        movement = torch.bmm(directions, layer.inputs)
        if layer.hidden is not None:
            movement = torch.baddbmm(movement, moved[-1], layer.hidden)
        moved.append(slopes[index] * movement)
        # CELU's second derivative is its first one where that is below 1, and 0 elsewhere.
        bent.append(torch.where(slopes[index] < 1, inner[index] * movement, 0.0))
    derivatives = [Layer(_column(directions), _column(moved[-1]), torch.zeros_like(last.bias))]
    part = bent[-1]
    for index in reversed(range(len(layers))):
        layer = layers[index]
        inputs = torch.baddbmm(torch.bmm(points.mT, part), directions.mT, inner[index])
        weight = None
        if layer.hidden is not None:
            weight = torch.baddbmm(torch.bmm(hidden[index - 1].mT, part), moved[index - 1].mT, inner[index])
        derivatives.insert(0, Layer(inputs, weight, part.sum(dim=1, keepdim=True)))
        if layer.hidden is not None:
            part = torch.addcmul(bent[index - 1], torch.bmm(part, layer.hidden.mT), slopes[index - 1])
    form = torch.baddbmm(torch.bmm(points.mT, torch.bmm(directions, weights.form)), directions.mT, scaled)
    return ConvexWeights(derivatives, form)


def value_derivatives(points: Tensor, coefficients: Tensor, weights: ConvexWeights) -> ConvexWeights:
    """Differentiate ``sum_m c_m f(x_m)`` with respect to the weights.

    Parameters
    ----------
    points, coefficients
        x (N, M, D) and c (N, M).
    weights
        Of the networks.

    Returns
    -------
    ConvexWeights
        The derivatives.
    """
    *layers, last = weights.layers
    hidden, slopes = _hidden_layers(points, layers)
    factors = coefficients.unsqueeze(-1)
    inner = _backpropagated(factors * _row(last), layers, slopes)
    derivatives = []
    for index, (layer, part) in enumerate(zip(layers, inner, strict=True)):
        weight = None if layer.hidden is None else torch.bmm(hidden[index - 1].mT, part)
        derivatives.append(Layer(torch.bmm(points.mT, part), weight, part.sum(dim=1, keepdim=True)))
    bias = coefficients.sum(dim=1).view(-1, 1, 1)
    derivatives.append(Layer(_column(points * factors), _column(hidden[-1] * factors), bias))
    return ConvexWeights(derivatives, torch.bmm(points.mT, factors * torch.bmm(points, weights.form)))


def _hidden_layers(points: Tensor, layers: Sequence[Layer]) -> tuple[list[Tensor], list[Tensor]]:
    """Return the hidden layers after sigma, and the derivatives of sigma."""
    hidden: list[Tensor] = []
    slopes: list[Tensor] = []
    for inputs, weight, bias in layers:
        before = torch.baddbmm(bias, points, inputs)
        if weight is not None:
            before = torch.baddbmm(before, hidden[-1], weight)
        # CELU and its derivative from one exponential: exp(x) for negative x, and 1 otherwise.
        slope = before.clamp(max=0).exp()
        hidden.append(before.relu() + (slope - 1))
        slopes.append(slope)
    return hidden, slopes


def _backpropagated(outer: Tensor, layers: Sequence[Layer], slopes: Sequence[Tensor]) -> list[Tensor]:
    """Return the derivatives with respect to what sigma is applied to, from that with respect to the last z."""
    inner: list[Tensor] = []
    for layer, slope in zip(reversed(layers), reversed(slopes), strict=True):
        inner.insert(0, outer * slope)
        if layer.hidden is not None:
            outer = torch.bmm(inner[0], layer.hidden.mT)
    return inner


def _row(last: Layer) -> Tensor:
    """Return w as (N, 1, H)."""
    assert last.hidden is not None
    return last.hidden.mT


def _column(rows: Tensor) -> Tensor:
    """Add up (N, M, H) over the points: (N, H, 1)."""
    return rows.sum(dim=1).unsqueeze(-1)
