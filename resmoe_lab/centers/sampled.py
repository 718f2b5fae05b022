"""Points of the continuous barycenter of the experts' neurons, which networks learn."""

from __future__ import annotations

import time
from typing import Any

import torch

from .._core.errors import UsageError
from .._core.progress import Progress, silent
from ..experts import ExpertStack
from ..neural import SOLVERS, Problem, solve
from ..transport import objective
from ._alignment import match_experts
from ._base import CENTERS, Center, CenterMethod
from ._statistics import Statistics

#: Few and large steps: a layer of a small model is to take seconds.
_USUAL: dict[str, dict[str, Any]] = {"cwb": {"steps": 200, "batch": 128, "learning_rate": 0.02}}


@CENTERS.register("sampled")
class Sampled(CenterMethod):
    """Learn the barycenter of the experts as distributions of neurons, and take p_I points of it.

    Every expert is centred at its mean neuron, as the barycenter's mean is the mean of the means. Networks learn maps
    from the experts to the barycenter in the main directions of all centred neurons together; the other directions, in
    which p_I neurons are too few to tell one distribution from another, stay as they are. The points are the images of
    the neurons of one expert, which the seed draws: every neuron of it goes to one point of the barycenter. Points that
    a generator draws freely would follow the same distribution but stand for no neuron of any expert: they lose more
    than a center of zeros as soon as there are many directions.

    Parameters
    ----------
    seed
        Decides the networks, their batches, and the expert.
    solver
        A continuous barycenter solver that has maps, in ``resmoe_lab.neural.SOLVERS``.
    directions
        How many directions are learnt in; no more than D and p_I - 1.
    settings
        Of the solver, such as ``steps=500``.

    Raises
    ------
    UsageError
        If `directions` is not positive, or the solver has no maps.

    References
    ----------
    Fan, Taghvaei and Chen (2021), section 3.3 (both recoveries); the usual solver is Korotin et al. (2021), as the
    quickest in so many dimensions.
    """

    name = "sampled"

    def __init__(self, *, seed: int = 0, solver: str = "cwb", directions: int = 32, **settings: Any) -> None:
        super().__init__(seed=seed)
        if directions < 1:
            raise UsageError(f"directions is {directions}, expected at least 1")
        if not SOLVERS[solver].has_maps:
            raise UsageError(f"solver {solver} has no maps from the experts, expected one that has, such as cwb")
        self.solver, self.directions = solver, directions
        self.settings = {**_USUAL.get(solver, {}), **settings}

    def find(self, stack: ExpertStack, *, statistics: Statistics | None = None, progress: Progress = silent) -> Center:
        """Train the maps, and take the images of one expert's neurons.

        Raises
        ------
        UsageError
            If the solver cannot be set so.
        DivergenceError
            If the training leaves the numbers.
        """
        begun = time.perf_counter()
        clouds = stack.checked().weights.float()
        means = clouds.mean(dim=1, keepdim=True)
        centred = clouds - means
        count = min(self.directions, stack.width, stack.intermediate_size - 1)
        basis = _main_directions(centred.flatten(0, 1), count, self.seed)
        points = centred @ basis
        scale = points.square().mean().sqrt()
        points = (points / scale).cpu()
        training = solve(Problem(list(points)), self.solver, seed=self.seed, progress=progress, **self.settings)
        expert = int(torch.randint(stack.num_experts, (1,), generator=torch.Generator().manual_seed(self.seed)))
        moved = (training.solver.push(points).detach()[expert] - points[expert]).to(clouds) * scale
        matrix = (centred[expert] + means.mean(dim=0) + moved @ basis.T).to(stack.weights.dtype)
        orders = match_experts(stack, matrix, progress=progress)
        return Center(
            name=self.name,
            matrix=matrix,
            permutations=orders,
            objective=objective(stack.weights, orders, matrix),
            solver=self.solver,
            history=(),
            iterations=training.solver.done,
            seconds=time.perf_counter() - begun,
            certificate=None,
        )


def _main_directions(rows: torch.Tensor, count: int, seed: int) -> torch.Tensor:
    """(D, count) orthonormal directions of the largest variance of centred (n, D) rows, by a randomised SVD."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return torch.svd_lowrank(rows, q=count, niter=4)[2]
