"""The alignment of a layer's experts: permutations, the search for the center and its certified gap."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from ... import plots
from ..._core.progress import Progress, silent
from ...centers import DEFAULT_CENTER
from ...checkpoint import Checkpoint
from ..layer import open_layer
from ._base import View


@dataclass(frozen=True, eq=False)
class TransportView(View):
    """The alignment of one layer.

    Parameters
    ----------
    layer, center, solver
        Index of the layer, and names of the center and of the solver.
    permutations
        (N, p_I) int64 array.
    history
        Columns ``step, round, objective, seconds, changed``: after each round of the search; empty where the center
        is found in one step.
    objective
        Mean squared distance of the aligned experts to the center.
    relative_objective
        The same as a share of the experts' mean squared norm.
    lower_bound, gap, kind
        The certificate; None and "" where there is none.
    seconds
        Duration of the search.
    """

    layer: int
    center: str
    solver: str
    permutations: np.ndarray
    history: pd.DataFrame
    objective: float
    relative_objective: float
    lower_bound: float | None
    gap: float | None
    kind: str
    seconds: float

    def charts(self) -> Mapping[str, Any]:
        """Return permutations, displacements and the search."""
        charts = {
            "permutations": plots.permutation_map({self.layer: self.permutations}),
            "displacements": plots.displacement_bars(self.displacements()),
        }
        if len(self.history):
            bounds = {} if self.lower_bound is None else {self.layer: self.lower_bound}
            charts["search"] = plots.center_history(
                {self.layer: self.history["objective"].tolist()}, lower_bounds=bounds
            )
        return charts

    def tables(self) -> Mapping[str, pd.DataFrame]:
        """Return how far each expert's neurons moved, the histogram of displacements, and the search."""
        return {
            "permutations": plots.permutation_table({self.layer: self.permutations}),
            "displacements": self.displacements(),
            "search": self.history,
        }

    def displacements(self) -> pd.DataFrame:
        """Return the histogram of the displacements of all experts' neurons."""
        return plots.displacement_table({self.layer: self.permutations})


def view_transport(
    checkpoint: Checkpoint,
    layer: int,
    *,
    center: str = DEFAULT_CENTER,
    solver: str | None = None,
    progress: Progress = silent,
) -> TransportView:
    """Align the experts of a layer with their center, or take the cached alignment.

    Parameters
    ----------
    checkpoint, layer
        The experts.
    center, solver
        Names of the center and of the solver that finds it.
    progress
        Called with the objective at every step; raising from it cancels.
    """
    loaded = open_layer(checkpoint, layer, center=center, solver=solver, progress=progress).value
    fitted, scale = loaded.center, loaded.stack.mean_squared_norm()
    steps = [
        (i, step.name, step.objective, step.seconds, step.changed) for i, step in enumerate(fitted.history, start=1)
    ]
    certificate = fitted.certificate
    return TransportView(
        layer=layer,
        center=center,
        solver=fitted.solver,
        permutations=loaded.permutations,
        history=pd.DataFrame(steps, columns=["step", "round", "objective", "seconds", "changed"]),
        objective=fitted.objective,
        relative_objective=fitted.objective / scale if scale else 0.0,
        lower_bound=certificate.lower_bound if certificate else None,
        gap=certificate.gap if certificate else None,
        kind=certificate.kind if certificate else "",
        seconds=fitted.seconds,
    )
