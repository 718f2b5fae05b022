"""Derivatives of convex networks in closed form, against automatic differentiation."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from resmoe_lab.neural.convex import (
    ConvexShape,
    convex_gradients,
    convex_values,
    pairing_derivatives,
    value_derivatives,
)


def _problem(widths: tuple[int, ...]) -> tuple[ConvexShape, Tensor, Tensor, Tensor]:
    """Weights of three networks, seven points and directions for each."""
    generator = torch.Generator().manual_seed(0)
    shape = ConvexShape(4, widths)
    width = sum(a * b for a, b in shape.shapes())
    flat = torch.randn(3, width, generator=generator, dtype=torch.float64)
    points, directions = torch.randn(2, 3, 7, 4, generator=generator, dtype=torch.float64)
    return shape, flat.requires_grad_(True), points, directions


@pytest.mark.parametrize("widths", [(5,), (5, 6), (6, 3, 5)])
def test_derivatives_in_closed_form_are_those_of_autograd(widths: tuple[int, ...]) -> None:
    shape, flat, points, directions = _problem(widths)
    inputs = points.clone().requires_grad_(True)
    values = convex_values(inputs, shape.split(flat))
    (known,) = torch.autograd.grad(values.sum(), inputs, create_graph=True)
    gradient, activations = convex_gradients(points, shape.split(flat))
    torch.testing.assert_close(gradient, known)
    (by_torch,) = torch.autograd.grad((known * directions).sum(), flat)
    ours = shape.join(pairing_derivatives(points, directions, shape.split(flat), activations))
    torch.testing.assert_close(ours, by_torch)
    coefficients = directions[..., 0]
    (by_torch,) = torch.autograd.grad((convex_values(points, shape.split(flat)) * coefficients).sum(), flat)
    torch.testing.assert_close(shape.join(value_derivatives(points, coefficients, shape.split(flat))), by_torch)


def test_parts_are_views_of_one_matrix_with_the_hidden_weights_first() -> None:
    shape, flat, _, _ = _problem((5, 6))
    weights = shape.split(flat.detach())
    assert torch.equal(shape.join(weights), flat)
    hiddens = [layer.hidden for layer in weights.layers if layer.hidden is not None]
    assert [tuple(hidden.shape) for hidden in hiddens] == [(3, 5, 6), (3, 6, 1)]
    for hidden in hiddens:
        hidden.zero_()
    assert shape.num_hidden == 36
    assert not flat[:, :36].any()
    assert bool((flat[:, 36:] != 0).all())
