"""Costs against what they are when written out."""

from __future__ import annotations

import math

import pytest
import torch

from resmoe_lab.neural import Gaussian
from resmoe_lab.neural.costs import KL, ConditionalPlans, Energy, latent_cost, quadratic, transformed_cost, twist


def _randn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_twisting_keeps_distances_from_the_origin_and_can_be_undone() -> None:
    points = 3 * _randn(100, 2)
    there = twist(points)
    assert torch.allclose(there.norm(dim=1), points.norm(dim=1), atol=1e-5)
    assert torch.allclose(twist(there, turn=-0.4), points, atol=1e-5)
    turned = torch.atan2(there[:, 1], there[:, 0]) - torch.atan2(points[:, 1], points[:, 0])
    assert torch.allclose(torch.cos(turned), torch.cos(0.4 * points.norm(dim=1)), atol=1e-5)


def test_ground_costs_see_changed_and_decoded_points() -> None:
    points, images = _randn(5, 2), _randn(5, 2, seed=1)
    assert torch.equal(transformed_cost(twist)(points, images), quadratic(twist(points), twist(images)))
    assert torch.equal(latent_cost(lambda z: 2 * z)(points, images), quadratic(points, 2 * images))


def test_kl_is_torchs() -> None:
    mean, scale = _randn(2, 4, 3), _randn(2, 4, 3, seed=1).exp()
    plan = ConditionalPlans(torch.empty(2, 4, 1, 3), mean, scale)
    normal = torch.distributions.Normal
    kl = torch.distributions.kl_divergence(normal(mean, scale), normal(torch.full_like(mean, 5), 1.0)).sum(dim=-1)
    assert torch.allclose(KL(0.7, 5.0)(plan, torch.Generator()), 0.7 * kl, atol=1e-4)


def test_energy_is_the_estimate_of_the_paper_written_out() -> None:
    images = _randn(1, 1, 4, 2)
    prior = Gaussian([1.0, 0.0], torch.eye(2))
    energy = Energy(2.0, prior, draws=3)(ConditionalPlans(images), torch.Generator().manual_seed(5))
    others = prior.sample(3, torch.Generator().manual_seed(5))
    across = sum(math.dist(x, y) for x in images[0, 0].tolist() for y in others.tolist()) / 12
    inside = sum(math.dist(x, y) for x in images[0, 0].tolist() for y in images[0, 0].tolist()) / 12
    assert float(energy) == pytest.approx(2 * (2 * across - inside), rel=1e-4)


def test_energy_has_a_finite_slope_where_a_point_meets_itself() -> None:
    images = torch.zeros(1, 1, 2, 2, requires_grad=True)
    Energy(1.0, Gaussian([1.0, 0.0], torch.eye(2)))(ConditionalPlans(images), torch.Generator()).sum().backward()
    assert bool(images.grad.isfinite().all())
