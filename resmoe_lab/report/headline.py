"""The first screen of a report: the answer in sentences, and the table behind it."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

import pandas as pd
from IPython.display import HTML

from .. import plots
from .._core.params import KEEP
from ..experiments.sweep import Sweep
from ..experiments.variants import FEW_BITS
from ..plots.series import error_text, is_plain_quantizer
from .answer import answer
from .html import Cell, table
from .numbers import number_text, percent
from .overview import SHIFT_LABELS, Summary, at_bits, best_for_bytes, shift_cells, summarise


def headline(sweep: Sweep) -> HTML:
    """Answer in words and three figures, and show the table of what goes by a kept fraction at any of them."""
    summary = summarise(sweep)
    if summary.table.empty:
        return HTML("<p class='lead'>This sweep holds no method.</p>")
    keeps = summary.keeps()
    keep = min(keeps, key=lambda value: abs(value - KEEP.default), default=None)
    sentences = [*(_answer(summary, keep) if keep is not None else ()), *_answer_in_bits(summary)]
    parts = [f"<h1>{_model(sweep)}</h1>", answer(sweep, summary), *(f"<p>{sentence}</p>" for sentence in sentences)]
    if keep is None:
        return HTML("".join(parts))
    bodies = {f"{value:g}": _summary_rows(summary, value) for value in keeps}
    header = ["method", "relative error", *(column.label for column in summary.columns)]
    header += [*(SHIFT_LABELS if summary.has_shift else ()), "paper's count", "really stored", "whole model"]
    state = "scored" if summary.columns else "computed"
    shown = f"<p class='note'>At keep <output data-shows='keep'></output>, the nearest that was {state}:</p>"
    note = "Bold: best of its column. Bytes are shares of the original's; all sliders of kept fractions on this page "
    note += "move together."
    parts += [_page_slider(keeps), shown, table(header, bodies)]
    return HTML("".join(parts) + f"<p class='note'>{note}</p>")


def _page_slider(keeps: Iterable[float]) -> str:
    """Return the slider that sets the kept fraction of all charts and tables of the page."""
    slider = plots.keep_slider(keeps)
    low, high = slider.values[0], slider.values[-1]
    return (
        f"<label class='keep'><span>kept fraction</span> <input type='range' id='page-keep' min='{low:g}' "
        f"max='{high:g}' step='{slider.step:g}' value='{slider.start:g}'> <output>{slider.start:g}</output></label>"
    )


def _model(sweep: Sweep) -> str:
    return f"What ResMoE does to {escape(str(sweep.facts.get('model', 'this model')))}"


def _answer(summary: Summary, keep: float) -> Iterable[str]:
    """Say which of the methods that keep a part of the parameters is closest, and what else fits into its bytes."""
    rows = summary.at(keep).dropna(subset=["error"]).sort_values("error")
    best = rows.iloc[0]
    first = (
        f"Keeping {keep:.0%} of the parameters, <b>{escape(best['series'])}</b> stays closest to the original experts: "
    )
    yield first + f"relative error {_against(rows)}."
    rival = best_for_bytes(summary, best["true_share"])
    if rival is None:
        return
    stored = f"It really stores {best['true_share']:.1%} of the experts' bytes; "
    stored += f"the paper's way of counting says {best['paper_share']:.1%}."
    if rival.series != best["series"]:
        yield (
            f"{stored} With as many bytes, <b>{escape(rival.series)}</b> does better: "
            f"relative error {error_text(rival.error)} at {rival.setting}."
        )
    elif any(map(is_plain_quantizer, summary.table["series"])):
        yield f"{stored} No other method in this sweep does better with as many bytes."
    else:
        yield f"{stored} What plainly rounded weights would lose in as many bytes was not measured."


def _answer_in_bits(summary: Summary) -> Iterable[str]:
    """Say what is closest with few bits a weight, where methods that go by them were compared."""
    rows = at_bits(summary, FEW_BITS)
    if not summary.table["by_bits"].any() or rows.empty:
        return
    best = rows.iloc[0]
    share = f"{FEW_BITS:g} stored bits a weight, an eighth of the original's, center, indices and scales included"
    scores = ""
    for column in summary.columns[:1]:
        if column.label in summary.original and pd.notna(best[column.name]):
            numbers = [
                number_text(value, column.percent) for value in (best[column.name], summary.original[column.label])
            ]
            scores = f"; {escape(column.label)} {numbers[0]} (original {numbers[1]})"
    error = f"relative error {_against(rows)}{scores}"
    yield f"With no more than {share}, <b>{escape(best['series'])}</b> stays closest: {error}."


def _against(rows: pd.DataFrame) -> str:
    """The least error, and the one after it."""
    text = error_text(rows.iloc[0]["error"])
    if len(rows) > 1:
        text += f", against {error_text(rows.iloc[1]['error'])} for {escape(rows.iloc[1]['series'])}"
    return text


def _summary_rows(summary: Summary, keep: float) -> list[list[Cell | str]]:
    rows = summary.at(keep)
    ends = {**summary.best(rows), "true_share": rows["true_share"].min()}

    def cell(row: pd.Series, name: str, text: str) -> Cell:
        return Cell(text, best=name in ends and len(rows) > 1 and row[name] == ends[name])

    result: list[list[Cell | str]] = []
    if summary.original:
        scores = [number_text(summary.original.get(c.label), c.percent) for c in summary.columns]
        shift = [percent(0.0), "0"] if summary.has_shift else []
        result.append(["original", number_text(0.0, False), *scores, *shift, percent(1.0), percent(1.0), percent(1.0)])
    for _, row in rows.iterrows():
        scored = [cell(row, c.name, number_text(row[c.name], c.percent)) for c in summary.columns]
        shares = [cell(row, name, percent(row[name])) for name in ("paper_share", "true_share", "model_share")]
        error = cell(row, "error", number_text(row["error"], False))
        result.append([str(row["series"]), error, *scored, *shift_cells(summary, row), *shares])
    return result
