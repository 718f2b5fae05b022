"""Convex networks are convex, gradients are gradients, and a stack is its networks one by one."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from resmoe_lab.neural.networks import Generator, StackedICNN, StackedMLP, StackedPICNN


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def _wild(net: torch.nn.Module) -> torch.nn.Module:
    """Weights far from where they begin, clipped as the training does."""
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.copy_(2 * torch.randn_like(parameter))
    net.clip()
    return net.double()


def _lowest_curvature(value: object, points: Tensor) -> float:
    eigenvalues = [torch.linalg.eigvalsh(torch.autograd.functional.hessian(value, point)) for point in points]
    return float(torch.stack(eigenvalues).min())


def test_convex_networks_are_convex_and_unclipped_ones_need_not_be() -> None:
    net = _wild(StackedICNN(2, 3, [6, 6]))
    points = torch.randn(40, 3, dtype=torch.float64)
    assert _lowest_curvature(lambda x: net(x.expand(2, 1, 3))[1, 0], points) > -1e-9
    middle = torch.randn(2, 500, 3, dtype=torch.float64) * 4
    step = torch.randn_like(middle)
    assert bool((net(middle) <= 0.5 * (net(middle + step) + net(middle - step)) + 1e-9).all())
    with torch.no_grad():
        for layer in net.weights().layers[1:]:
            layer.hidden.neg_()
        net.weights().form.zero_()
    assert _lowest_curvature(lambda x: net(x.expand(2, 1, 3))[1, 0], points) < -0.01
    assert bool((net.penalty() > 0).all())
    net.clip()
    assert net.penalty().tolist() == [0, 0]


def test_squared_celu_would_not_be_convex() -> None:
    line = torch.linspace(-3, -0.8, 50, dtype=torch.float64)
    squared = torch.nn.functional.celu(line) ** 2
    assert bool((squared[2:] - 2 * squared[1:-1] + squared[:-2] < 0).all())


def test_gradients_in_closed_form_are_those_of_autograd_and_can_be_learnt_through() -> None:
    net = _wild(StackedICNN(3, 4, [5, 7]))
    points = torch.randn(3, 11, 4, dtype=torch.float64, requires_grad=True)
    (known,) = torch.autograd.grad(net(points).sum(), points, create_graph=True)
    torch.testing.assert_close(net.gradient(points), known)
    target = torch.randn_like(known)
    parameters = [*net.parameters()]
    by_hand = torch.autograd.grad((net.gradient(points) * target).sum(), parameters, allow_unused=True)
    by_torch = torch.autograd.grad((known * target).sum(), parameters, allow_unused=True)
    for ours, theirs in zip(by_hand, by_torch, strict=True):
        torch.testing.assert_close(
            torch.zeros(()) if ours is None else ours, torch.zeros(()) if theirs is None else theirs, check_dtype=False
        )


def test_partially_convex_networks_are_convex_in_the_point_under_every_condition() -> None:
    net = _wild(StackedPICNN(2, 2, [5, 5], condition=3))
    conditions = torch.randn(4, 3, dtype=torch.float64)
    points = torch.randn(30, 2, dtype=torch.float64)
    for place in range(8):
        value = lambda x, place=place: net(x.expand(8, 1, 2), conditions)[place, 0]  # noqa: E731
        assert _lowest_curvature(value, points[:6]) > -1e-8
    many = torch.randn(8, 5, 2, dtype=torch.float64, requires_grad=True)
    (known,) = torch.autograd.grad(net(many, conditions).sum(), many)
    torch.testing.assert_close(net.gradient(many, conditions), known)


def test_networks_of_a_condition_stand_in_the_order_of_the_conditions() -> None:
    net = _wild(StackedPICNN(2, 2, [5], condition=3))
    conditions, points = torch.randn(3, 3, dtype=torch.float64), torch.randn(6, 4, 2, dtype=torch.float64)
    together = net(points, conditions)
    for place in range(3):
        alone = net(points[2 * place : 2 * place + 2], conditions[place : place + 1])
        torch.testing.assert_close(together[2 * place : 2 * place + 2], alone)


def test_a_stack_is_its_networks_one_by_one() -> None:
    net = StackedMLP(3, [2, 5, 5, 1], skip=True, quadratic=True).double()
    with torch.no_grad():
        net.form.copy_(torch.randn(3, 2, 2))
    points = torch.randn(3, 4, 2, dtype=torch.float64)
    for k in range(3):
        hidden = points[k]
        for place in range(3):
            hidden = hidden @ net.weights[place][k] + net.biases[place][k]
            hidden = torch.nn.functional.silu(hidden) if place < 2 else hidden
        form = net.form[k] + net.form[k].T
        alone = (
            hidden + points[k] @ net.linear[k] + 0.5 * torch.einsum("md,de,me->m", points[k], form, points[k])[:, None]
        )
        torch.testing.assert_close(net(points)[k], alone)


def test_a_network_with_a_skip_begins_near_the_identity() -> None:
    points = torch.randn(2, 500, 3)
    assert (StackedMLP(2, [3, 50, 3], skip=True)(points) - points).square().mean() < 0.1
    assert (StackedICNN(2, 3, [8, 8]).gradient(points) - points).square().mean() < 0.1
    assert Generator([3, 8, 2])(torch.randn(10, 3)).shape == (10, 2)
