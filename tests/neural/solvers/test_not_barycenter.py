"""The barycenter by neural optimal transport: exact maps on Gaussians, costs of many kinds."""

from __future__ import annotations

import pytest
import torch

from resmoe_lab._core.errors import UsageError
from resmoe_lab.neural import Gaussian, Problem, Sampler, gaussian_barycenter, gaussian_maps, l2_uvp, solve, train
from resmoe_lab.neural.costs import KL, Energy, latent_cost, quadratic
from resmoe_lab.neural.solvers._congruent import CongruentPotentials
from resmoe_lab.neural.solvers.not_barycenter import NOTBarycenter, NOTSettings


def test_maps_of_gaussians(gaussians: Problem) -> None:
    solver = solve(gaussians, "not", steps=120, width=32).solver
    exact = gaussian_barycenter(gaussians)
    points = gaussians.sample(5000, torch.Generator().manual_seed(3))
    variance = float(exact[1].trace())
    errors = [
        l2_uvp(images, own.double() @ matrix + offset, variance)
        for images, own, (matrix, offset) in zip(
            solver.push(points), points, gaussian_maps(gaussians, exact), strict=True
        )
    ]
    assert float(torch.tensor(errors) @ gaussians.weights) < 0.3


def test_potentials_are_congruent(gaussians: Problem) -> None:
    torch.manual_seed(0)
    potentials = CongruentPotentials(gaussians.weights, 2, [8, 8])
    same = torch.randn(50, 2).expand(3, 50, 2)
    assert torch.einsum("k,km->m", gaussians.weights, potentials(same)).abs().max() < 1e-6
    with torch.no_grad():
        alone = torch.stack([potentials(torch.randn(3, 50, 2)) for _ in range(1)])
    assert alone.abs().max() > 0.01


def test_a_bound_keeps_the_images_where_a_flat_cost_would_let_them_run_away(gaussians: Problem) -> None:
    def flat(points: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
        return quadratic(points, images).tanh()

    reach = []
    for bound in (0.0, 2.0):
        settings = NOTSettings(steps=60, batch=64, width=16, learning_rate=0.02, bound=bound)
        solver = train(NOTBarycenter(gaussians, settings, grounds=flat)).solver
        reach.append(float(solver.sample(500).abs().max()))
    assert reach[1] <= 2 < reach[0]
    with pytest.raises(UsageError, match="bound is -1"):
        NOTBarycenter(gaussians, NOTSettings(bound=-1))


def _pulled(regularizer: object, plan: str) -> torch.Tensor:
    problem = Problem([Gaussian([-1.0, 0.0], torch.eye(2)), Gaussian([1.0, 0.0], torch.eye(2))])
    settings = NOTSettings(steps=120, batch=64, width=16, plan=plan, draws=4)
    solver = NOTBarycenter(problem, settings, regularizer=regularizer)
    return train(solver).solver.sample(2000).mean(dim=0)


def test_the_regularized_costs_pull_to_the_prior() -> None:
    """With |x - y|^2 / 2 + eps KL(. || N(5, I)) the conditional mean is drawn by eps / (1 + eps) of the way."""
    assert _pulled(KL(0.5, (5.0, 5.0)), "gaussian").tolist() == pytest.approx([5 / 3, 5 / 3], abs=0.25)
    moved = _pulled(Energy(0.5, Gaussian([5.0, 5.0], torch.eye(2))), "stochastic")
    assert bool((moved > 0.4).all())
    assert bool((moved < 3).all())


def test_marginals_of_different_spaces_meet_on_a_manifold() -> None:
    """The barycenter of 3-dimensional and 1-dimensional points in a plane of codes: each sees its own coordinate."""
    solid = Gaussian([1.0, 0.0, 0.0], 0.01 * torch.eye(3))
    line = Sampler(lambda n, g: 2 + 0.1 * torch.randn(n, 1, generator=g), 1)
    problem = Problem([solid, line], one_space=False)
    lift = torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
    grounds = [latent_cost(lambda codes: codes @ lift), lambda x, z: quadratic(x, z[..., 1:])]
    solver = NOTBarycenter(problem, NOTSettings(steps=250, batch=64, width=16, dimension=2), grounds=grounds)
    made = train(solver).solver.sample(500)
    assert made.mean(dim=0).tolist() == pytest.approx([1, 2], abs=0.25)


@pytest.mark.parametrize(
    ("settings", "options", "said"),
    [
        ({}, {"regularizer": KL(1.0)}, "Gaussian plans only"),
        ({"plan": "stochastic"}, {"regularizer": Energy(1.0, Gaussian([0.0], [[1.0]]))}, "at least 2 draws"),
        ({}, {"grounds": [quadratic]}, "1 ground costs for 3 distributions"),
    ],
)
def test_what_does_not_fit_together_is_refused(gaussians: Problem, settings: dict, options: dict, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        NOTBarycenter(gaussians, NOTSettings(**settings), **options)
