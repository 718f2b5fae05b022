"""The tables behind the report's first screen."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pandas as pd

from ..experiments.sweep import Sweep, shift_by_variant
from ..plots.series import (
    add_series,
    goes_by_bits,
    lower_is_better,
    mean_over_layers,
    order_series,
    setting_label,
    task_values,
)
from ..plots.sizes import size_table
from .numbers import number_text, percent

#: Columns of what a variant does to the routing, where that was measured.
SHIFT_LABELS = ("tokens rerouted", "KL of the gate")


@dataclass(frozen=True)
class Column:
    """One column of the summary: its name in the table, its label, its format, and which end is better."""

    name: str
    label: str
    percent: bool
    lower_is_better: bool


@dataclass(frozen=True)
class Summary:
    """Every method at every kept fraction, in one table.

    Parameters
    ----------
    table
        Columns ``series``, ``keep``, ``by_bits``, ``error``, ``paper_share``, ``true_share``, ``paper_bytes``,
        ``true_bytes``, ``model_share``, ``bits`` (stored a weight), ``rerouted``, ``gate_kl``, and one for each task.
    columns
        The task columns.
    original
        Task to the score of the uncompressed model, where it was scored.
    """

    table: pd.DataFrame
    columns: tuple[Column, ...]
    original: dict[str, float]

    @property
    def has_shift(self) -> bool:
        """Whether the shift of the routing was measured."""
        return bool(self.table["rerouted"].notna().any())

    def scored(self) -> pd.DataFrame:
        """Return the rows with scores, or all where nothing was scored."""
        scores = [column.name for column in self.columns]
        return self.table.dropna(subset=scores, how="all") if scores else self.table

    def best(self, rows: pd.DataFrame) -> dict[str, float]:
        """Return the best value of the error and of each task among some rows, by the name of its column."""
        ends = {column.name: "min" if column.lower_is_better else "max" for column in self.columns}
        return {name: getattr(rows[name], end)() for name, end in {"error": "min", **ends}.items()}

    def keeps(self) -> list[float]:
        """Return the kept fractions of methods that go by them, lowest first; only scored ones, if there are scores."""
        table = self.scored()
        return sorted(set(table.loc[~table["by_bits"], "keep"]))

    def at(self, keep: float) -> pd.DataFrame:
        """Return the rows at one kept fraction of methods that go by it, in the methods' usual order."""
        rows = self.table[((self.table["keep"] - keep).abs() < 1e-6) & ~self.table["by_bits"]]
        rank = {name: i for i, name in enumerate(order_series(rows["series"]))}
        return rows.sort_values("series", key=lambda column: column.map(rank))


def summarise(sweep: Sweep) -> Summary:
    """Join a sweep's errors, bytes and scores."""
    sizes = size_table(sweep.sizes)
    keys = ["series", "keep"]
    for table in (errors := mean_over_layers(sweep.errors), sizes):
        table["keep"] = table["keep"].round(6)
    joined = errors.rename(columns={"value": "error"}).merge(sizes, on=keys, how="outer")
    columns, original = [], {}
    for task in dict.fromkeys(sweep.scores["task"]):
        values, references, metric = task_values(sweep.scores, task)
        values = values[[*keys, "value"]].assign(keep=values["keep"].round(6))
        joined = joined.merge(values.rename(columns={"value": f"task {task}"}), on=keys, how="left")
        lower = lower_is_better(metric)
        columns.append(Column(f"task {task}", task, percent=not lower, lower_is_better=lower))
        if "original" in references:
            original[task] = references["original"]
    shift = add_series(shift_by_variant(sweep))[[*keys, "rerouted", "gate_kl"]].astype({"keep": float})
    joined = joined.merge(shift.assign(keep=shift["keep"].round(6)), on=keys, how="left")
    joined["by_bits"] = joined["series"].map(goes_by_bits).astype(bool)
    return Summary(joined, tuple(columns), original)


def shift_cells(summary: Summary, row: pd.Series) -> list[str]:
    """Return the cells under :data:`SHIFT_LABELS` of a row of the summary; none where nothing was measured."""
    if not summary.has_shift:
        return []
    rerouted = "not measured" if pd.isna(row["rerouted"]) else percent(row["rerouted"])
    return [rerouted, number_text(row["gate_kl"], False)]


def by_keep(sweep: Sweep) -> Sweep:
    """Return the part of a sweep whose methods go by the kept fraction; the whole of it where none does."""
    tables = {}
    for name in ("errors", "scores", "sizes"):
        table = getattr(sweep, name)
        tables[name] = table[~add_series(table)["series"].map(goes_by_bits).astype(bool)] if len(table) else table
    return replace(sweep, **tables) if len(tables["errors"]) else sweep


@dataclass(frozen=True)
class BestForBytes:
    """The least error within a budget of stored bytes."""

    series: str
    keep: float
    error: float
    true_share: float

    @property
    def setting(self) -> str:
        """What the method was told: its kept fraction, or its bits."""
        return setting_label(self.series, self.keep)


def best_for_bytes(summary: Summary, true_share: float) -> BestForBytes | None:
    """Return the method and kept fraction with the least error among those that store no more than this share.

    Equal kept fractions are not equal bytes: methods with a center also store the center, and pruned matrices
    their indices. This is the comparison at equal weight.
    """
    candidates = summary.table[summary.table["true_share"] <= true_share + 1e-9].dropna(subset=["error"])
    if candidates.empty:
        return None
    best = candidates.sort_values("error").iloc[0]
    return BestForBytes(str(best["series"]), float(best["keep"]), float(best["error"]), float(best["true_share"]))


def at_bits(summary: Summary, bits: float) -> pd.DataFrame:
    """Return each series' scored point of the least error that stores no more than so many bits a weight.

    Returns
    -------
    pandas.DataFrame
        Rows of the summary's table, the least error first; none for a series of which nothing fits.
    """
    scored = summary.scored()
    table = scored[scored["bits"] <= bits + 1e-9].dropna(subset=["error"])
    return table.sort_values("error").drop_duplicates("series")
