"""From a sweep's tables to the series that charts draw."""

from __future__ import annotations

from collections.abc import Iterable

import pandas as pd

from .theme import METHOD_COLORS, SERIES_SEPARATOR

#: Rows of a sweep that are not a method's: the original model, and every expert replaced by its center.
REFERENCES = ("original", "center-only")


def add_series(table: pd.DataFrame) -> pd.DataFrame:
    """Return a copy of `table` with a ``series`` column: the method, and its center where that is not the default."""
    table = table.copy()
    from ..centers import DEFAULT_CENTER, NO_CENTER

    center = table["center"].fillna("").astype(str)
    is_default = center.isin(["", NO_CENTER, "None", "-", DEFAULT_CENTER]) | table["method"].isin(REFERENCES)
    method = table["method"].astype(str)
    table["series"] = method.where(is_default, method + SERIES_SEPARATOR + center)
    return table


def order_series(names: Iterable[str]) -> list[str]:
    """Return the distinct names: known methods in the order of the palette, then the others by name."""
    known = list(METHOD_COLORS)
    rank = {name: i for i, name in enumerate(known)}
    return sorted(set(names), key=lambda name: (rank.get(name.split(SERIES_SEPARATOR)[0], len(known)), name))


def mean_over_layers(errors: pd.DataFrame, layer: int | None = None) -> pd.DataFrame:
    """Return one relative error per series and keep: of one layer, or the mean over all.

    Returns
    -------
    pandas.DataFrame
        Columns ``series``, ``keep``, ``value``.
    """
    table = add_series(errors if layer is None else errors[errors["layer"] == layer])
    return table.groupby(["series", "keep"])["relative_error"].mean().rename("value").reset_index()


def task_values(scores: pd.DataFrame, task: str) -> tuple[pd.DataFrame, dict[str, float], str]:
    """Return the scores of one task, its reference values and its metric.

    Returns
    -------
    table
        Columns ``series``, ``keep``, ``value``, ``low``, ``high``: the value and its 95 % interval.
    references
        ``"original"`` and ``"center-only"`` where the sweep has them.
    metric
        The metric's name; the table's first one where a task has several.
    """
    rows = scores[scores["task"] == task]
    metric = str(rows["metric"].iloc[0])
    rows = add_series(rows[(rows["metric"] == metric) & rows["value"].notna()])
    references = {name: float(rows.loc[rows["method"] == name, "value"].iloc[0]) for name in _present(rows)}
    table = rows[~rows["method"].isin(REFERENCES)]
    spread = 1.96 * table["stderr"].astype(float).fillna(0.0)
    table = table.assign(low=table["value"] - spread, high=table["value"] + spread)
    return table[["series", "keep", "value", "low", "high"]], references, metric


def _present(rows: pd.DataFrame) -> list[str]:
    return [name for name in REFERENCES if (rows["method"] == name).any()]


def lower_is_better(metric: str) -> bool:
    """Whether a smaller value of this metric is the better one."""
    return any(word in metric.lower() for word in ("perplexity", "ppl", "bits", "loss", "error"))


def metric_label(metric: str) -> str:
    """Return a metric's name in words."""
    return {"acc": "accuracy", "acc_norm": "normalised accuracy", "ppl": "perplexity"}.get(
        metric, metric.replace("_", " ")
    )


def round_significant(table: pd.DataFrame, digits: int = 5) -> pd.DataFrame:
    """Return `table` with floats rounded to so many significant digits: charts carry their data as text."""
    rounded = table.select_dtypes("float").map(lambda value: float(f"{value:.{digits}g}"))
    return pd.concat([table.drop(columns=rounded.columns), rounded], axis=1)
