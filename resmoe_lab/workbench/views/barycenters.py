"""Barycenters of distributions in the plane, at all weights, from one training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd
import torch

from ... import plots
from ..._core.errors import UsageError
from ..._core.progress import Progress, Tick, silent
from ...checkpoint import Checkpoint
from ...experts import load_stack
from ...neural import SOLVERS, Problem, Training, sliced_w2, train
from ...neural.examples import EXAMPLES, first_and_rest
from ._base import View

#: The example whose distributions are the neurons of a checkpoint's layer.
NEURONS = "neurons of experts"
_EXPERTS = 3
_SHOWN, _FROZEN = 600, 250
#: Networks and inner iterations small enough for a training of seconds.
_SETTINGS = {"width": 16, "depth": 2, "inner": 4, "outer": 3, "batch": 64, "learning_rate": 5e-3}


def example_names() -> list[str]:
    """Return the names of the examples, the one of the checkpoint last."""
    return [*EXAMPLES, NEURONS]


@dataclass(frozen=True, eq=False)
class BarycentersView(View):
    """One training of NWB-F, and the barycenters it gives.

    Parameters
    ----------
    example
        Name of the distributions.
    training
        The trained solver with its history.
    weights
        Weights of the first distribution that reports can show.
    """

    example: str
    training: Training
    weights: tuple[float, ...] = field(default=tuple(round(0.1 * i, 1) for i in range(11)))

    @property
    def problem(self) -> Problem:
        """The distributions."""
        return self.training.solver.problem

    def marginals(self, count: int = _SHOWN) -> list[np.ndarray]:
        """Draw (count, 2) points of each distribution, always the same."""
        return list(self.problem.sample(count, torch.Generator().manual_seed(4)).numpy())

    def at(self, weight: float, count: int = _SHOWN) -> np.ndarray:
        """Draw (count, 2) points of the barycenter where the first distribution has this weight."""
        shares = first_and_rest(weight, len(self.problem))
        solver: Any = self.training.solver
        return solver.sample(count, weights=shares).numpy()

    def distance(self, weight: float) -> list[float]:
        """Return the sliced 2-Wasserstein distance from the barycenter of this weight to every distribution."""
        barycenter = torch.as_tensor(self.at(weight))
        return [sliced_w2(barycenter, torch.as_tensor(points)) for points in self.marginals()]

    def charts(self) -> Mapping[str, Any]:
        """Return the point clouds with a slider of the weight, and the training."""
        slider = plots.cloud_slider(list(self.weights), start=0.5, label="weight of distribution 1")
        tables = self.tables()
        return {
            "barycenter": plots.barycenter_clouds(tables["marginals"], tables["barycenters"], slider=slider),
            "training": plots.training_drift(self.training.table()),
        }

    def tables(self) -> Mapping[str, pd.DataFrame]:
        """Return points of the distributions and of their barycenters, and the training."""
        clouds = enumerate(self.marginals(_FROZEN), 1)
        marginals = [_points(cloud, distribution=f"distribution {i}") for i, cloud in clouds]
        barycenters = [_points(self.at(weight, _FROZEN), weight=weight) for weight in self.weights]
        tables = {"barycenters": pd.concat(barycenters), "marginals": pd.concat(marginals)}
        return {**tables, "training": self.training.table()}


def _points(cloud: np.ndarray, **columns: Any) -> pd.DataFrame:
    return pd.DataFrame({**columns, "x": cloud[:, 0], "y": cloud[:, 1]})


def neuron_clouds(checkpoint: Checkpoint, layer: int) -> Problem:
    """Return the neurons of a layer's first experts, projected on their first two principal components.

    Coordinates are scaled to a total variance of 1.

    Parameters
    ----------
    checkpoint, layer
        The experts.
    """
    experts = load_stack(checkpoint, layer=layer).weights[:_EXPERTS].float()
    flat = experts.flatten(0, 1)
    centered = flat - flat.mean(dim=0)
    _, _, directions = torch.linalg.svd(centered, full_matrices=False)
    points = centered @ directions[:2].T
    return Problem(list((points / points.var(dim=0).sum().sqrt()).view(len(experts), -1, 2)))


def view_barycenters(
    example: str,
    *,
    steps: int = 300,
    seed: int = 0,
    checkpoint: Checkpoint | None = None,
    layer: int = 0,
    progress: Progress = silent,
) -> BarycentersView:
    """Train NWB-F on an example.

    Parameters
    ----------
    example
        A name in ``example_names()``.
    steps, seed
        Outer iterations, and the seed of the random numbers.
    checkpoint, layer
        The experts whose neurons are the distributions, for that example.
    progress
        Called every few steps; at evaluations with ``points``, samples at equal weights, and ``marginals``. Raising
        from it cancels.

    Raises
    ------
    UsageError
        If there is no such example.
    """
    if example == NEURONS and checkpoint is not None:
        problem = neuron_clouds(checkpoint, layer)
    elif example in EXAMPLES:
        problem = EXAMPLES[example]()
    else:
        raise UsageError(f"unknown example {example!r}, expected one of {', '.join(example_names())}")
    solver_type: Any = SOLVERS["nwb-f"]
    solver = solver_type(problem, solver_type.settings_type(steps=steps, **_SETTINGS), seed=seed)

    marginals = list(problem.sample(_SHOWN, torch.Generator().manual_seed(4)).numpy())

    def report(tick: Tick) -> None:
        samples = {"points": solver.sample(_SHOWN).numpy(), "marginals": marginals} if "drift" in tick.facts else {}
        progress(replace(tick, facts={**tick.facts, **samples}))

    return BarycentersView(example, train(solver, progress=report))


def format_weights(shares: Sequence[float]) -> str:
    """Format weights as '0.5 : 0.25 : 0.25'."""
    return " : ".join(f"{share:.2g}" for share in shares)
