"""The start of a report: how small, how much worse, and how that stands against plainly rounded weights of 4 bits."""

from __future__ import annotations

import math
from dataclasses import dataclass
from html import escape

import pandas as pd

from .._core.params import KEEP, keep_of_bits
from .._core.units import human_bytes
from ..experiments.sweep import Sweep
from ..experiments.variants import FEW_BITS, PLAIN_BITS
from ..plots.series import add_series, error_text, is_plain_quantizer, variant_label
from .numbers import number_text
from .overview import Column, Summary, at_bits

_PLAIN = f"plain {PLAIN_BITS:g}-bit"


@dataclass(frozen=True)
class _Form:
    """One scored form: its row of the summary, and what its main score is."""

    row: pd.Series
    value: float
    stderr: float

    @property
    def label(self) -> str:
        """What it is called."""
        return variant_label(str(self.row["series"]), float(self.row["keep"]))

    @property
    def size(self) -> str:
        """Bytes of the whole model."""
        return human_bytes(self.row["model_bytes"])


def answer(sweep: Sweep, summary: Summary) -> str:
    """Answer in a paragraph and three figures; empty for a sweep without a method.

    Parameters
    ----------
    sweep
        The sweep.
    summary
        Its summary.
    """
    row = leading(summary)
    if row is None:
        return ""
    column = summary.columns[0] if summary.columns else None
    lead = _form(sweep, row, column)
    plain_row = _plain_row(summary)
    plain = None if plain_row is None else _form(sweep, plain_row, column)
    times = float(row["original_model_bytes"]) / float(row["model_bytes"])
    smaller = f"{times:.2g} times smaller" if times >= 1 else f"{1 / times:.2g} times larger"
    sizes = human_bytes(row["original_model_bytes"]), lead.size
    text = f"<b>{escape(lead.label)}</b> makes the model {smaller}, {sizes[0]} become {sizes[1]}; "
    text += f"{_worse(summary, lead, column)}. {_against(lead, plain, column)}"
    bits = f"experts at {row['bits']:.2f} stored bits a weight, of 16"
    cards = [
        ("How small", f"{sizes[0]} &rarr; <b>{sizes[1]}</b>", f"whole model; {bits}"),
        ("How much worse", *_worse_card(summary, lead, column)),
        (f"Against {_PLAIN}", *_against_card(lead, plain, column)),
    ]
    return f"<p class='lead'>{text}</p>{_cards(cards)}"


def leading(summary: Summary) -> pd.Series | None:
    """Return the row that the report speaks of first: what a sweep shows the tokens of first.

    The least error at the kept fraction nearest to the default; in a sweep of nothing but methods that go by bits, that
    within :data:`.FEW_BITS` bits, or the smallest.
    """
    if summary.table.empty:
        return None
    keep = min(summary.keeps(), key=lambda value: abs(value - KEEP.default), default=None)
    rows = at_bits(summary, FEW_BITS) if keep is None else summary.at(keep).dropna(subset=["error"])
    if rows.empty:
        rows = summary.scored().dropna(subset=["error", "true_share"]).sort_values("true_share")[:1]
    return None if rows.empty else rows.sort_values("error").iloc[0]


def _plain_row(summary: Summary) -> pd.Series | None:
    """The scored row of the closest plain quantizer of four bits."""
    rows = summary.scored()
    keep = keep_of_bits(PLAIN_BITS)
    rows = rows[rows["series"].map(is_plain_quantizer).astype(bool) & ((rows["keep"] - keep).abs() < 1e-6)]
    rows = rows.dropna(subset=["error", "model_bytes"]).sort_values("error")
    return None if rows.empty else rows.iloc[0]


def _form(sweep: Sweep, row: pd.Series, column: Column | None) -> _Form:
    if column is None:
        return _Form(row, math.nan, math.nan)
    scores = add_series(sweep.scores)
    same = (scores["series"] == row["series"]) & ((scores["keep"] - row["keep"]).abs() < 1e-6)
    of_task = scores[same & (scores["task"] == column.label)]
    stderr = float(of_task["stderr"].iloc[0]) if len(of_task) else math.nan
    return _Form(row, float(row[column.name]), stderr)


def _worse(summary: Summary, form: _Form, column: Column | None) -> str:
    error = f"its experts have a relative error of {error_text(form.row['error'])}"
    if column is None:
        return f"{error}, no task was scored"
    number = number_text(form.value, column.percent)
    original = summary.original.get(column.label)
    moved = "is" if original is None else f"goes from {number_text(original, column.percent)} to"
    better = "lower" if column.lower_is_better else "higher"
    return f"{escape(column.label)} {moved} {number} ({better} is better), and {error}"


def _worse_card(summary: Summary, form: _Form, column: Column | None) -> tuple[str, str]:
    error = error_text(form.row["error"])
    if column is None:
        return f"<b>{error}</b>", "relative error; no task was scored"
    original = summary.original.get(column.label)
    prefix = "" if original is None else f"{number_text(original, column.percent)} &rarr; "
    better = "lower" if column.lower_is_better else "higher"
    number = f"{prefix}<b>{number_text(form.value, column.percent)}</b>"
    # Long names of tasks break where words do.
    return number, f"{escape(column.label).replace('_', '_<wbr>')}, {better} is better; relative error {error}"


def _against(form: _Form, plain: _Form | None, column: Column | None) -> str:
    """How a form stands against plainly rounded weights, in a sentence."""
    if plain is None:
        return f"How it stands against {_PLAIN} was not measured in this sweep."
    if form.label == plain.label:
        return f"That is {_PLAIN} itself: nothing in this sweep is held against it."
    score = "" if column is None else f", {number_text(plain.value, column.percent)}"
    size, quality = _verdicts(form, plain, column)
    return f"Against {_PLAIN} (<b>{escape(plain.label)}</b>: {plain.size}{score}) it is {size} and {quality}."


def _against_card(form: _Form, plain: _Form | None, column: Column | None) -> tuple[str, str]:
    if plain is None:
        return "not measured", f"no {_PLAIN} row in this sweep: add --methods rtn --bits {PLAIN_BITS:g}"
    figure = error_text(plain.row["error"]) if column is None else number_text(plain.value, column.percent)
    number = f"<b>{figure}</b> in {plain.size}"
    if form.label == plain.label:
        return number, f"{escape(plain.label)}: the form itself"
    size, quality = _verdicts(form, plain, column)
    return number, f"{escape(plain.label)}; {escape(form.label)} is {size} and {quality}"


def _verdicts(form: _Form, plain: _Form, column: Column | None) -> tuple[str, str]:
    """Whether a form is smaller or larger than another, and better or worse."""
    ours, theirs = float(form.row["model_bytes"]), float(plain.row["model_bytes"])
    size = "as large" if ours == theirs else "smaller" if ours < theirs else "larger"
    if column is None or math.isnan(form.value) or math.isnan(plain.value):
        better = form.row["error"] < plain.row["error"]
        return size, f"{'closer to' if better else 'farther from'} the original's weights"
    spread = 1.96 * math.hypot(form.stderr, plain.stderr)
    if abs(form.value - plain.value) <= spread:
        return size, "as good within the error bars"
    return size, "better" if (form.value < plain.value) == column.lower_is_better else "worse"


def _cards(cards: list[tuple[str, str, str]]) -> str:
    parts = [
        f"<div class='card'><div class='name'>{name}</div><div class='figure'>{figure}</div>"
        f"<div class='caption'>{caption}</div></div>"
        for name, figure, caption in cards
    ]
    return f"<div class='cards'>{''.join(parts)}</div>"
