"""The short table at the end of a run: error, scores and bytes of each method at one keep."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .._core.params import KEEP
from ..experiments.sweep import Sweep

_MAIN_METRICS = ("perplexity", "acc")


def summary_rows(source: Sweep | str | Path, *, keep: float = KEEP.default) -> list[dict[str, Any]]:
    """Return one row a method: mean relative error, the main score of every task, and both counts of bytes.

    Parameters
    ----------
    source
        A sweep, or the folder of one.
    keep
        Which keep; the original model and the center alone are shown beside it.
    """
    sweep = source if isinstance(source, Sweep) else Sweep.load(source)
    errors = sweep.errors[sweep.errors.keep == keep].groupby("method").relative_error.mean()
    sizes = sweep.sizes[sweep.sizes.keep == keep].set_index("method")
    main = sweep.scores[sweep.scores.metric.isin(_MAIN_METRICS)]
    rows: list[dict[str, Any]] = []
    for name, scores in main[main.keep.isin([keep, 0.0, 1.0])].groupby("method", sort=False):
        method = str(name)
        row: dict[str, Any] = {"method": method}
        row["relative error"] = float(errors[method]) if method in errors else None
        for score in scores[scores.keep.isin([keep] if method in errors else [0.0, 1.0])].to_dict("records"):
            row[str(score["task"]).replace("storyworld_", "")] = float(score["value"])
        if method in sizes.index:
            row["paper MB"] = round(float(sizes.paper_bytes[method]) / 1e6, 3)
            row["true MB"] = round(float(sizes.true_bytes[method]) / 1e6, 3)
        elif method == "original":
            row["paper MB"] = row["true MB"] = round(float(sweep.sizes.original_bytes.iloc[0]) / 1e6, 3)
        rows.append(row)
    return [{name: row.get(name) for name in rows[-1]} for row in rows]
