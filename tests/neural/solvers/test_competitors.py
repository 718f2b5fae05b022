"""Every other solver on Gaussians with a known barycenter, and what all of them promise."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from resmoe_lab._core.errors import UsageError
from resmoe_lab.neural import (
    SOLVERS,
    Gaussian,
    Problem,
    bures_uvp,
    gaussian_barycenter,
    gaussian_maps,
    l2_uvp,
    moments,
    solve,
)

#: Settings that take a second or two, and the errors (percent, of the barycenter and of the maps) that they stay under.
_QUICK = {
    "cdwb": ({"steps": 3, "batch": 400, "support": 400}, 2.0, None),
    "egbary": ({"steps": 50, "batch": 64, "width": 32, "langevin": 10, "learning_rate": 3e-3}, 3.0, 3.0),
    "win": ({"steps": 80, "batch": 64, "width": 16, "learning_rate": 3e-3}, 3.0, 3.0),
    "cwb": ({"steps": 150, "batch": 64, "width": 16}, 1.0, 1.0),
    "crwb": ({"steps": 150, "batch": 128, "width": 32}, 12.0, 12.0),
}


@pytest.mark.parametrize("name", sorted(_QUICK))
def test_it_finds_the_barycenter_of_gaussians(name: str, gaussians: Problem) -> None:
    settings, most, most_maps = _QUICK[name]
    solver = solve(gaussians, name, **settings).solver
    exact = gaussian_barycenter(gaussians)
    assert bures_uvp(moments(solver.sample(5000)), exact) < most
    points = gaussians.sample(3000, torch.Generator().manual_seed(3))
    if most_maps is None:
        with pytest.raises(UsageError, match="has no maps"):
            solver.push(points)
        return
    errors = [
        l2_uvp(images, own.double() @ matrix + offset, float(exact[1].trace()))
        for images, own, (matrix, offset) in zip(
            solver.push(points), points, gaussian_maps(gaussians, exact), strict=True
        )
    ]
    assert float(torch.tensor(errors) @ gaussians.weights) < most_maps


def _moments_of(marginal: Gaussian) -> tuple[torch.Tensor, torch.Tensor]:
    return marginal.mean, marginal.covariance


@pytest.mark.parametrize("name", ["wgan-gp", "w2gn", "nwb"])
def test_one_marginal_is_learnt_as_a_generative_model(name: str) -> None:
    # Far from the standard Gaussian that the noise is; the critic of the GAN takes far longer than a test may.
    target = Gaussian([1.0, -1.0], [[3.0, 1.0], [1.0, 1.0]])
    gan = {"steps": 400, "batch": 64, "width": 32, "learning_rate": 1e-3, "inner": 3}
    settings, most = (gan, 80) if name == "wgan-gp" else ({"steps": 60 if name == "nwb" else 100, "batch": 64}, 10)
    started = bures_uvp(moments(solve(Problem([target]), name, steps=1).solver.sample(5000)), _moments_of(target))
    solver = solve(Problem([target]), name, **settings).solver
    assert bures_uvp(moments(solver.sample(5000)), _moments_of(target)) < min(most, 0.6 * started)


@pytest.mark.parametrize("name", ["wgan-gp", "w2gn"])
def test_a_generative_model_refuses_several_marginals(name: str, gaussians: Problem) -> None:
    with pytest.raises(UsageError, match="of one distribution, not of 3"):
        solve(gaussians, name)


@pytest.mark.parametrize("name", SOLVERS.names())
def test_every_solver_can_be_stopped_and_restored(name: str) -> None:
    pair = Problem([Gaussian([float(i), 0.0], np.eye(2)) for i in range(1 if name in ("wgan-gp", "w2gn") else 2)])
    small = {"steps": 3, "batch": 8} | ({"width": 8} if name != "cdwb" else {"support": 8})

    def new() -> object:
        return SOLVERS[name](pair, SOLVERS[name].settings_type(**small))

    first, second = new(), new()
    first.step()
    second.restore(first.state())
    assert first.step() == second.step()
    assert torch.equal(first.sample(8), second.sample(8))
    assert SOLVERS[name].reference
