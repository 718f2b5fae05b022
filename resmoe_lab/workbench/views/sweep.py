"""Sweeps: settings, forecast, Pareto fronts and allocations of a budget of bytes."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from ... import plots
from ..._core.progress import Progress, silent
from ...analysis.allocation import allocate_keeps
from ...analysis.pareto import pareto_front
from ...checkpoint import Checkpoint
from ...experiments.run_sweep import run_sweep
from ...experiments.sweep import UNIT, Sweep
from ...experiments.sweep_config import SweepConfig
from ...experiments.sweep_forecast import SweepForecast, forecast_sweep
from ...experiments.variants import ORIGINAL
from ...plots.series import lower_is_better, task_values
from ..model import running_model
from ._base import View
from .scores import view_scores


@dataclass(frozen=True)
class SweepChoices:
    """A sweep that may be run: its folder, and what is measured."""

    out: str
    config: SweepConfig

    def run(self, checkpoint: Checkpoint, progress: Progress = silent) -> Sweep:
        """Run the sweep, or resume a stopped one."""
        return run_sweep(checkpoint, self.out, self.config, progress=progress)

    def forecast(self, checkpoint: Checkpoint, progress: Progress = silent) -> SweepForecast:
        """Forecast how long it will take."""
        with running_model(checkpoint, progress) as running:
            return forecast_sweep(checkpoint, self.out, self.config, running=running, progress=progress)

    def command(self, checkpoint: Checkpoint) -> str:
        """Return the command line that does the same."""
        config = self.config
        words = ["resmoe-lab", "sweep", checkpoint.name, "--out", self.out, "--methods", ",".join(config.methods)]
        words += ["--keep", ",".join(f"{keep:g}" for keep in config.keeps)]
        words += ["--bits", ",".join(f"{bits:g}" for bits in config.bits)]
        words += ["--layers", ",".join(map(str, config.layers))]
        words += ["--center", config.center, "--tasks", ",".join(config.tasks)]
        words += [] if config.limit is None else ["--limit", str(config.limit)]
        return shlex.join(words)


@dataclass(frozen=True, eq=False)
class SweepView(View):
    """A finished sweep."""

    sweep: Sweep

    @property
    def tasks(self) -> list[str]:
        """The tasks that were scored, perplexities first."""
        main = self.sweep.scores.drop_duplicates("task")
        rank = {str(row.task): not lower_is_better(str(row.metric)) for row in main.itertuples()}
        return sorted(rank, key=lambda task: rank[task])

    def points(self, task: str) -> tuple[pd.DataFrame, pd.DataFrame, str, float | None]:
        """Return one task's score against bytes, the Pareto front, the metric and the original's score.

        Returns
        -------
        points
            Columns ``series, keep, value, true_share, true_bytes``.
        front
            The rows on the Pareto front.
        metric, original
            The metric's name, and its value before compression, where it was measured.
        """
        values, references, metric = task_values(self.sweep.scores, task)
        sizes = plots.size_table(self.sweep.sizes)[["series", "keep", "true_share", "true_bytes"]]
        table = values[["series", "keep", "value"]].merge(sizes, on=["series", "keep"])
        signed = table.assign(loss=table["value"] if lower_is_better(metric) else -table["value"])
        front = pareto_front(signed, cost="true_share", loss="loss")[table.columns.tolist()]
        return table, front, metric, references.get(ORIGINAL)

    def methods(self) -> list[str]:
        """Return the methods that were measured."""
        return list(dict.fromkeys(self.sweep.errors["method"]))

    def allocation(self, method: str, share: float) -> pd.DataFrame:
        """Allocate a share of the experts' bytes to the layers."""
        return allocate_keeps(self.sweep.errors, self.sweep.sizes, method=method, share=share)

    def scored_allocation(
        self, checkpoint: Checkpoint, method: str, share: float, *, task: str, progress: Progress = silent
    ) -> tuple[pd.Series, pd.Series]:
        """Run the model at a share of the experts' bytes, on as many of a task's rows as the sweep was scored on.

        Returns
        -------
        allocated, uniform
            The task's main score with a keep for each layer, and with one keep for all: ``metric, value, stderr``.
        """
        table, settings = self.allocation(method, share), self.sweep.facts["settings"]
        options: dict[str, Any] = {"method": method, "center": settings["center"], "limit": settings["limit"]}

        def score(column: str) -> pd.Series:
            keeps = dict(zip(table["layer"], table[column], strict=True))
            arguments = {**options, "keeps": keeps, "tasks": [task], "original": False}
            return view_scores(checkpoint, list(keeps), progress=progress, **arguments).main().iloc[0]

        return score("keep"), score("uniform_keep")

    def charts(self) -> Mapping[str, Any]:
        """Return the front of each task, and the error of allocated budgets."""
        charts: dict[str, Any] = {}
        for task in self.tasks:
            points, front, metric, original = self.points(task)
            charts[f"front {task}"] = plots.front_lines(points, front, task=task, metric=metric, original=original)
        return {**charts, "allocation": plots.allocation_lines(self.allocations())}

    def allocations(self) -> pd.DataFrame:
        """Return the mean relative error of every method at every budget, allocated and uniform.

        Returns
        -------
        pandas.DataFrame
            Columns ``method, share, allocated, uniform``.
        """
        return self._allocations.copy()

    @cached_property
    def _allocations(self) -> pd.DataFrame:
        sizes = plots.size_table(self.sweep.sizes)
        shares = sorted({round(float(share), 3) for share in sizes["true_share"] if share < 1})
        rows = []
        for method in self.methods():
            method_sizes = self.sweep.sizes[self.sweep.sizes["method"] == method]
            least = float((method_sizes["true_bytes"] / method_sizes["original_bytes"]).min())
            for share in (share for share in shares if share >= least):
                table = self.allocation(method, share)
                rows.append((method, share, table["relative_error"].mean(), table["uniform_error"].mean()))
        return pd.DataFrame(rows, columns=["method", "share", "allocated", "uniform"])

    def tables(self) -> Mapping[str, pd.DataFrame]:
        """Return scores, errors, bytes, and the front of every task."""
        fronts = [self.points(task)[1].assign(task=task) for task in self.tasks]
        tables = {"scores": self.sweep.scores, "errors": self.sweep.errors, "sizes": self.sweep.sizes}
        return {**tables, "front": pd.concat(fronts, ignore_index=True)} if fronts else tables


def finished_scores(out: str | Path) -> int:
    """Return how many scores a sweep's folder holds."""
    return len(list(Path(out).glob(f"{UNIT}*.json")))
