"""Task scores: perplexity and accuracy against the kept fraction."""

from __future__ import annotations

import altair as alt
import pandas as pd

from ._curves import Measure, curves_and_values, over_setting
from .series import lower_is_better, metric_label, round_significant, task_values
from .theme import INK, color_scale, styled


def score_curves(scores: pd.DataFrame, task: str, *, chance: float | None = None) -> alt.HConcatChart:
    """Draw one task's score against the kept fraction, with the original model's and the bare centers' scores.

    Where all methods go by bits a weight, against those.

    Perplexities have a logarithmic axis: their ratio to the original's matters.

    Parameters
    ----------
    scores
        A sweep's ``scores`` table.
    task
        One of its tasks.
    chance
        The score of guessing, drawn as a line.

    Examples
    --------
    >>> columns = ["method", "center", "keep", "task", "metric", "value", "stderr"]
    >>> rows = [("up", "none", keep, "piqa", "acc", keep, 0.01) for keep in (0.25, 0.5)]
    >>> chart = score_curves(pd.DataFrame(rows, columns=columns), "piqa", chance=0.5)
    """
    table, references, metric = task_values(scores, task)
    if chance is not None:
        references["chance"] = chance
    perplexity = lower_is_better(metric)
    base = references.get("original", float(table["value"].min() if perplexity else table["value"].max()))
    number, ticks = (".3~g", "~g") if perplexity else (".1%", ".0%")
    measure = Measure(metric_label(metric), number=number, ticks=ticks, log=perplexity, base=base)
    table, across, slider = over_setting(table)
    chart = curves_and_values(table, measure, slider, references=references, across=across)
    better = "lower is better" if perplexity else "higher is better"
    return styled(chart.properties(title=alt.TitleParams(task, subtitle=f"{metric_label(metric)}, {better}")))


def score_bars(scores: pd.DataFrame) -> alt.HConcatChart:
    """Draw every task's score with its 95 % interval, one row a model.

    Parameters
    ----------
    scores
        Columns ``label, method, task, metric, value, stderr, n``; one metric a task.

    Examples
    --------
    >>> columns = ["label", "method", "task", "metric", "value", "stderr", "n"]
    >>> chart = score_bars(pd.DataFrame([("up at 0.5", "up", "piqa", "acc", 0.7, 0.01, 100)], columns=columns))
    """
    labels = list(dict.fromkeys(scores["label"]))
    panels = []
    # Other columns of a comparison, such as differences to the original, may be NaN, which no chart can hold.
    for task, rows in scores[["label", "method", "task", "metric", "value", "stderr", "n"]].groupby("task", sort=False):
        spread = 1.96 * rows["stderr"].astype(float).fillna(0.0)
        table = round_significant(rows.assign(low=rows["value"] - spread, high=rows["value"] + spread))
        metric = str(rows["metric"].iloc[0])
        top = 1.02 if metric.startswith("acc") else 1.05 * float(table["high"].max())
        base = alt.Chart(alt.Data(values=table.to_dict("records"))).encode(
            y=alt.Y("label:N", sort=labels, title=None, axis=alt.Axis(ticks=False, domain=False, labelLimit=220)),
            color=alt.Color("method:N", scale=color_scale(list(dict.fromkeys(scores["method"]))), legend=None),
        )
        ticks = alt.Axis(tickCount=3, format="~g")
        x = alt.X("value:Q", title=metric_label(metric), scale=alt.Scale(domain=[0, top], nice=False), axis=ticks)
        tooltip = ["label:N", alt.Tooltip("value:Q", format=".4~g"), alt.Tooltip("stderr:Q", format=".2~g"), "n:Q"]
        low = alt.X("low:Q", scale=alt.Scale(domain=[0, top], nice=False))
        layers = [
            base.mark_rule(strokeWidth=1.5).encode(x=low, x2="high:Q"),
            base.mark_circle(size=80, opacity=1).encode(x=x, tooltip=tooltip),
            base.mark_text(dy=-11).encode(x=x, text=alt.Text("value:Q", format=".3~g"), color=alt.value(INK)),
        ]
        panel = alt.LayerChart(layer=layers).properties(width=190, height=44 * len(labels), title=str(task))
        panels.append(panel)
    return styled(alt.hconcat(*panels, spacing=24))
