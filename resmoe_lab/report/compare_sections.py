"""The sections of a comparison: functions from its tables to HTML that a notebook shows."""

from __future__ import annotations

from html import escape

import pandas as pd
from IPython.display import HTML

from .._core.units import human_bytes
from ..experiments.compare_forms import FormsComparison
from ..experiments.variants import ORIGINAL
from ..plots.series import error_text
from .html import Cell, table
from .inside import charts_beside, tokens_beside


def summary(comparison: FormsComparison) -> HTML:
    """Say in a sentence which form is smallest and which moves predictions least, and tabulate all."""
    forms = comparison.forms.merge(comparison.tokens, on="form", how="left")
    others = forms[forms["form"] != comparison.reference]
    small = others.iloc[int(others["total_bytes"].argmin())]
    near = others.iloc[int(others["kl"].argmin())]
    words = f"<b>{escape(small['form'])}</b> is the smallest with {human_bytes(small['total_bytes'])}"
    if small["form"] == near["form"]:
        words += " and also moves predictions least"
    else:
        words += f"; <b>{escape(near['form'])}</b> moves predictions least"
    words += f" ({near['kl']:.3g} nats a token on this text, against {escape(comparison.reference)})."
    rows: list[list[Cell | str]] = []
    for _, row in forms.iterrows():
        name = str(row["form"])
        made = "" if row["method"] == ORIGINAL else f"{row['method']}, center {row['center']}"
        size = Cell(human_bytes(row["total_bytes"]), best=name == small["form"])
        kl = Cell(_or_empty(row["kl"], "{:.3g}"), best=name == near["form"])
        figures = _or_empty(row["bits"], "{:.2f}"), size, error_text(row["relative_error"]), kl
        rows.append([name, made, *figures, _or_empty(row["agreement"], "{:.0%}")])
    header = ["form", "made by", "bits a weight of the experts", "whole model", "relative error"]
    return HTML(f"<p class='lead'>{words}</p>" + table([*header, "KL a token", "same likeliest token"], {"": rows}))


def score_table(comparison: FormsComparison) -> HTML:
    """Tabulate the scores, with the differences to the reference row by row."""
    if comparison.scores.empty:
        return HTML("<p class='missing'>No task was scored.</p>")
    rows: list[list[Cell | str]] = []
    for _, row in comparison.scores.sort_values("task", kind="stable").iterrows():
        interval = f"{row['difference']:+.3g} ({row['low']:+.3g} to {row['high']:+.3g})"
        score = f"{row['value']:.4g} ± {row['stderr']:.2g}"
        difference = "" if pd.isna(row["difference"]) else interval
        rows.append([f"{row['task']}, {row['metric']}", str(row["form"]), score, difference, f"{row['n']:,}"])
    reference = escape(comparison.reference)
    note = f"<p class='note'>Differences to {reference}, row by row, with 95 % bootstrap intervals.</p>"
    return HTML(note + table(["task", "form", "score", "difference", "rows"], {"": rows}))


def token_pictures(comparison: FormsComparison) -> HTML:
    """Show the text of each form, coloured by how far its predictions move."""
    return tokens_beside(comparison.pictures)


def routing_charts(comparison: FormsComparison) -> HTML:
    """Chart how much of the routing each form changes, by layer."""
    return charts_beside({str(name): rows for name, rows in comparison.routing.groupby("form", sort=False)})


def written_texts(comparison: FormsComparison) -> HTML:
    """Tabulate what each form writes; where it leaves the reference is marked."""
    parts = []
    for prompt, rows in comparison.texts.groupby("prompt", sort=False):
        reference = str(rows.loc[rows["form"] == comparison.reference, "text"].iloc[0])
        pairs = [(str(row["form"]), _marked(str(row["text"]), reference)) for _, row in rows.iterrows()]
        lines = "".join(f"<dt>{escape(name)}</dt><dd>{text}</dd>" for name, text in pairs)
        parts.append(f"<h3>{escape(str(prompt))} …</h3><dl class='facts'>{lines}</dl>")
    return HTML("".join(parts))


def _marked(text: str, reference: str) -> str:
    """A text whose part that differs from the reference is marked."""
    differing = (i for i, (a, b) in enumerate(zip(text, reference, strict=False)) if a != b)
    same = next(differing, min(len(text), len(reference)))
    rest = text[same:]
    return escape(text[:same]) + (f"<mark>{escape(rest)}</mark>" if rest else "")


def _or_empty(value: float, form: str) -> str:
    return "" if pd.isna(value) else form.format(value)
