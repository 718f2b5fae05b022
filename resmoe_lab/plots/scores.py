"""What compression costs on tasks: perplexity and accuracy against the kept fraction."""

from __future__ import annotations

import altair as alt
import pandas as pd

from ._curves import Measure, curves_and_values
from .series import lower_is_better, metric_words, task_values
from .slider import keep_slider
from .theme import styled


def score_curves(scores: pd.DataFrame, task: str, *, chance: float | None = None) -> alt.HConcatChart:
    """Draw one task's score against the kept fraction, between the original model and its bare centers.

    Perplexities get a logarithmic axis: what matters is by which factor they grow.

    Parameters
    ----------
    scores
        A sweep's ``scores`` table.
    task
        One of its tasks.
    chance
        The score of guessing, drawn as a line.
    """
    table, references, metric = task_values(scores, task)
    if chance is not None:
        references["chance"] = chance
    perplexity = lower_is_better(metric)
    base = references.get("original", float(table["value"].min() if perplexity else table["value"].max()))
    number, ticks = (".3~g", "~g") if perplexity else (".1%", ".0%")
    measure = Measure(metric_words(metric), number=number, ticks=ticks, log=perplexity, base=base)
    chart = curves_and_values(table, measure, keep_slider(table["keep"]), references=references)
    better = "lower is better" if perplexity else "higher is better"
    return styled(chart.properties(title=alt.TitleParams(task, subtitle=f"{metric_words(metric)}, {better}")))
