"""The short table at the end of a run: error, scores and bytes of each method at one keep."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .._core.params import KEEP
from ..experiments.sweep import Sweep, shift_by_variant
from ..experiments.variants import ORIGINAL
from ..plots.series import REFERENCES, error_text, goes_by_bits, setting_label

_MAIN_METRICS = ("perplexity", "acc")


def summary_rows(source: Sweep | str | Path, *, keep: float = KEEP.default) -> list[dict[str, Any]]:
    """Return one row a method: stored bits a weight, mean relative error, main scores, rerouted tokens, bytes.

    Parameters
    ----------
    source
        A sweep, or the folder of one.
    keep
        Which keep; the original model and the center alone are shown beside it. Methods that go by bits have a row for
        each that was scored.
    """
    sweep = source if isinstance(source, Sweep) else Sweep.load(source)
    keys = ["method", "keep"]
    errors = dict(sweep.errors.groupby(keys).relative_error.mean())
    sizes = {(row["method"], row["keep"]): row for row in sweep.sizes.to_dict("records")}
    main = sweep.scores[sweep.scores.metric.isin(_MAIN_METRICS)]
    shift = shift_by_variant(sweep)
    rerouted = {(row["method"], row["keep"]): float(row["rerouted"]) for row in shift.to_dict("records")}
    rows: list[dict[str, Any]] = []
    for key, scores in main.groupby(keys, sort=False):
        method, at = str(key[0]), float(str(key[1]))
        by_bits = goes_by_bits(method)
        if method not in REFERENCES and not by_bits and abs(at - keep) > 1e-9:
            continue
        row: dict[str, Any] = {"method": method, "bits": None}
        if by_bits:
            row["method"] += f", {setting_label(method, at)}"
        row["relative error"] = float(error_text(errors[method, at])) if (method, at) in errors else None
        for score in scores.to_dict("records"):
            row[str(score["task"]).replace("storyworld_", "")] = float(score["value"])
        original = float(sweep.sizes.original_bytes.iloc[0])
        paper, true = (original, original) if method == ORIGINAL else (None, None)
        if (method, at) in sizes:
            paper, true = (float(sizes[method, at][count]) for count in ("paper_bytes", "true_bytes"))
        if rerouted:
            row["tokens rerouted"] = rerouted.get((method, at), 0.0 if method == ORIGINAL else None)
        if paper is not None and true is not None:
            row |= {
                "bits": round(16 * true / original, 2),
                "paper MB": round(paper / 1e6, 3),
                "true MB": round(true / 1e6, 3),
            }
        rows.append(row)
    return [{name: row.get(name) for name in rows[-1]} for row in rows]
