"""The free-support Wasserstein barycenter of the experts: ResMoE's own center."""

from __future__ import annotations

from typing import Any

from .._core.progress import Progress, silent
from ..experts import ExpertStack
from ..transport import barycenter
from ._base import CENTERS, Center
from ._statistics import Statistics


@CENTERS.register("wasserstein")
def wasserstein(
    stack: ExpertStack,
    *,
    seed: int = 0,
    progress: Progress = silent,
    statistics: Statistics | None = None,
    solver: str = "coordinate",
    **options: Any,
) -> Center:
    """Find the Wasserstein barycenter of the neuron clouds and the permutations onto it.

    Parameters
    ----------
    stack
        The experts of one layer.
    seed
        For solvers that draw an order or a start.
    progress
        Told the objective after every step.
    statistics
        Not used: all experts count alike.
    solver
        ``"coordinate"`` (default), ``"alternating"`` for the paper's result, ``"pot"`` for the published call.
    options
        Passed on to :func:`resmoe_lab.transport.barycenter`.

    References
    ----------
    ResMoE, Algorithm 1 and Proposition 4.1.
    """
    result = barycenter(stack.weights, solver=solver, seed=seed, progress=progress, **options)
    return Center(
        name="wasserstein",
        matrix=result.center,
        permutations=result.permutations,
        objective=result.objective,
        solver=result.solver,
        history=result.history,
        iterations=result.iterations,
        seconds=result.seconds,
        certificate=result.certificate,
    )
