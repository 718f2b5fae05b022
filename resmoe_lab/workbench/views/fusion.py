"""Two networks averaged at all weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from ... import plots
from ..._core.progress import Progress, Tick, silent
from ...fusion import fuse, load_mlpnet, mixing_curve, mnist
from ._base import View


@dataclass(frozen=True, eq=False)
class FusionView(View):
    """Accuracy of two networks averaged at all weights.

    Parameters
    ----------
    mixing
        Columns ``weight, method, label, accuracy``, see :func:`~resmoe_lab.fusion.mixing_curve`.
    costs
        Columns ``layer, neurons, cost``: transport cost between the two, by layer.
    """

    mixing: pd.DataFrame
    costs: pd.DataFrame

    def at(self, weight: float, label: str = "all") -> pd.Series:
        """Return the accuracy of every method at a weight of the second network, by method."""
        rows = self.mixing[(self.mixing["label"] == label) & ((self.mixing["weight"] - weight).abs() < 1e-6)]
        return rows.set_index("method")["accuracy"]

    def charts(self) -> Mapping[str, Any]:
        """Return one chart with a slider for the weight."""
        return {"mixing": plots.mixing_chart(self.mixing)}

    def tables(self) -> Mapping[str, pd.DataFrame]:
        """Return accuracies and transport costs."""
        return {"accuracy": self.mixing, "costs": self.costs}


def view_fusion(
    first: str | Path,
    second: str | Path,
    *,
    by: str = "weights",
    samples: int = 200,
    seed: int = 0,
    data_dir: str | Path | None = None,
    progress: Progress = silent,
) -> FusionView:
    """Fuse two fully connected networks and test them on MNIST at all mixing weights.

    Parameters
    ----------
    first, second
        Files, see :func:`~resmoe_lab.fusion.load_mlpnet`; the second one's neurons are the reference.
    by
        ``"weights"`` or ``"activations"``: what neurons are compared by.
    samples, seed
        How many training images activations are measured on, and the seed of their choice.
    data_dir
        Folder where MNIST is looked for first.
    progress
        Called at every step; raising from it cancels.

    Raises
    ------
    CheckpointError, DataError, UsageError, WeightError
        If a file or the images cannot be read, or the two networks do not fit together.
    """
    progress(Tick("reading", 0, 2))
    networks = [load_mlpnet(path) for path in (first, second)]
    test = mnist("test", data_dir=data_dir)
    images = mnist("train", data_dir=data_dir).sample(samples, seed=seed) if by == "activations" else None
    fusion = fuse(networks, by=by, samples=images, progress=progress)
    mixing = mixing_curve(networks, test, fusion=fusion, progress=progress)
    costs = fusion.costs()
    return FusionView(mixing, costs[costs["network"] == 0].drop(columns="network").reset_index(drop=True))
