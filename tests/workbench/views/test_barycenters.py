"""The view of barycenters against the library."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import resmoe_lab as rl
from resmoe_lab._core.errors import UsageError
from resmoe_lab.checkpoint import Checkpoint
from resmoe_lab.workbench.views import view_barycenters
from resmoe_lab.workbench.views.barycenters import neuron_clouds


def test_the_points_are_those_of_the_trained_solver() -> None:
    view = view_barycenters("ring and square", steps=10)
    expected = view.training.solver.sample(50, weights=[0.3, 0.7]).numpy()
    assert np.array_equal(view.at(0.3, 50), expected)
    assert set(view.charts()) == {"barycenter", "training"}
    assert view.tables()["training"]["step"].iloc[-1] == 10
    assert len(view.distance(0.5)) == 2


def test_neurons_lie_in_the_plane_of_their_largest_variance(pico_checkpoint: Checkpoint) -> None:
    problem = neuron_clouds(pico_checkpoint, 0)
    points = torch.cat([marginal.points for marginal in problem.marginals]).double()
    experts = rl.load_stack(pico_checkpoint, layer=0).weights[: len(problem)].flatten(0, 1).double()
    values = torch.linalg.eigvalsh(torch.cov(experts.T)).flip(0)[:2]
    assert points.var(dim=0).tolist() == pytest.approx((values / values.sum()).tolist(), rel=1e-4)


def test_an_unknown_example_is_named() -> None:
    with pytest.raises(UsageError, match="unknown example 'triangle', expected one of three Gaussians"):
        view_barycenters("triangle")
