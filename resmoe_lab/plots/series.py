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


def goes_by_bits(series: str) -> bool:
    """Whether a series is of a method that goes by bits a weight rather than by a kept fraction."""
    from ..methods import METHODS

    method = series.split(SERIES_SEPARATOR)[0]
    return method in METHODS and METHODS[method].method.by_bits


def is_plain_quantizer(series: str) -> bool:
    """Whether a series is of a method that does nothing but round every weight to a few bits."""
    from ..experiments.variants import is_plain_quantizer

    return is_plain_quantizer(series.split(SERIES_SEPARATOR)[0])


def setting_label(series: str, keep: float) -> str:
    """Return what a method was told: its kept fraction, or its bits a weight.

    Examples
    --------
    >>> setting_label("resmoe-up", 0.25), setting_label("rtn", 0.1875), setting_label("coded", 0.0625)
    ('keep 0.25', '3 bits', '1 bit')
    """
    if not goes_by_bits(series):
        return f"keep {keep:.3g}"
    return f"{16 * keep:.4g} bit{'' if keep == 1 / 16 else 's'}"


def variant_label(method: str, keep: float) -> str:
    """Return what a method with its setting is called.

    Examples
    --------
    >>> variant_label("resmoe-up", 0.25), variant_label("rtn", 0.1875)
    ('resmoe-up at 0.25', 'rtn at 3 bits')
    """
    return f"{method} at {setting_label(method, keep) if goes_by_bits(method) else format(keep, 'g')}"


def error_text(error: float) -> str:
    """Return a relative error: three decimals, or two significant digits of a small one.

    Examples
    --------
    >>> error_text(0.1236), error_text(0.00123), error_text(0)
    ('0.124', '0.0012', '0.000')
    """
    return f"{error:.3f}" if error >= 0.01 or error == 0 else f"{error:.2g}"


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


def worst_drawn(values: pd.Series, original: float | None) -> float:
    """Return the worst perplexity that is drawn: the worst below twice the original's, where not most are above.

    A model beyond that is broken, and how much would leave no room for those that are not.
    """
    if original is None or (values <= 2 * original).mean() < 0.5:
        return float(values.max())
    return float(values[values <= 2 * original].max())


def metric_label(metric: str) -> str:
    """Return a metric's name in words."""
    return {"acc": "accuracy", "acc_norm": "normalised accuracy", "ppl": "perplexity"}.get(
        metric, metric.replace("_", " ")
    )


def round_significant(table: pd.DataFrame, digits: int = 5) -> pd.DataFrame:
    """Return `table` with floats rounded to so many significant digits: charts carry their data as text."""
    rounded = table.select_dtypes("float").map(lambda value: float(f"{value:.{digits}g}"))
    return pd.concat([table.drop(columns=rounded.columns), rounded], axis=1)
