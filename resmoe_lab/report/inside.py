"""Sections on what compression changes inside a model: its map, the tokens of a text, and its routing."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

import pandas as pd
from IPython.display import HTML

from .. import plots
from ..experiments.sweep import Sweep, shift_by_variant
from ..plots.inline import map_html, tokens_html
from ..plots.offline import chart_html
from ..plots.series import REFERENCES, add_series, goes_by_bits, order_series, setting_label, variant_label
from .html import table
from .numbers import number_text, percent

_OLD = (
    "This sweep was made by a version that did not record it: run resmoe-lab sweep again, with a new folder as --out."
)


def map_section(sweep: Sweep) -> HTML:
    """Show the map of the checkpoint, as stored and as one of the sweep's forms would store it."""
    pictures = sweep.pictures
    if pictures is None:
        return _missing(_OLD)
    data = pictures.map.model_dump(mode="json")
    for form in data["forms"][1:]:
        form["name"] = f"{variant_label(pictures.method, pictures.keep)}, forecast"
    return HTML(f"<figure>{map_html(data)}</figure>")


def token_section(sweep: Sweep) -> HTML:
    """Show a text of the sweep's task in some of its forms, coloured by how far predictions move."""
    pictures = sweep.pictures
    if pictures is None:
        return _missing(_OLD)
    note = f"<p class='note'>The beginning of the text of {escape(pictures.task)}.</p>"
    shown = {
        variant_label(form.method, form.keep): form.tokens.model_dump(mode="json")
        | {"label": variant_label(form.method, form.keep)}
        for form in pictures.forms
    }
    gone = _missing(f"Not recorded: {pictures.missing}.").data if pictures.missing else ""
    return HTML((note + tokens_beside(shown).data if shown else "") + gone)


def routing_section(sweep: Sweep) -> HTML:
    """Chart the shift of the routing by layer in the forms whose tokens are shown, and tabulate it for all."""
    shift = sweep.routing_shift
    if shift.empty:
        reason = sweep.pictures.missing if sweep.pictures is not None else ""
        return _missing(f"Not recorded: {reason}." if reason else _OLD)
    forms = sweep.pictures.forms if sweep.pictures is not None else ()
    charts = {}
    for form in forms:
        rows = shift[(shift["method"] == form.method) & (shift["keep"] == form.keep)]
        charts[variant_label(form.method, form.keep)] = rows
    return HTML((charts_beside(charts).data if charts else "") + _shift_table(sweep))


def _shift_table(sweep: Sweep) -> str:
    """All variants: at the slider's kept fraction, and at all bits."""
    rows = add_series(shift_by_variant(sweep))
    header = ["method", "setting", "tokens rerouted", "KL of the gate", "KL a token", "same likeliest token"]
    rank = {name: i for i, name in enumerate([*REFERENCES, *order_series(rows["series"])])}
    rows = rows.sort_values(
        ["series", "keep"], key=lambda column: column.map(rank) if column.name == "series" else column
    )
    cells: dict[str, list[list[Any]]] = {}
    for _, row in rows.iterrows():
        series, keep = str(row["series"]), float(row["keep"])
        always = series in REFERENCES or goes_by_bits(series)
        setting = "" if series in REFERENCES else setting_label(series, keep)
        figures = percent(row["rerouted"]), number_text(row["gate_kl"], False), number_text(row["kl"], False)
        line = [series, setting, *figures, percent(row["agreement"])]
        cells.setdefault("" if always else f"{round(keep, 6):g}", []).append(line)
    shown = "At keep <output data-shows='keep'></output>, and all that goes by bits" if len(cells) > 1 else "All"
    note = f"<p class='note'>{shown}, on the same {int(rows['tokens'].max()):,} tokens; mean over the layers.</p>"
    return note + table(header, cells)


def tokens_beside(pictures: Mapping[str, Mapping[str, Any]]) -> HTML:
    """Show a text in several forms, coloured by how far predictions move, on one scale."""
    scale = max((max(picture["kl"]) for picture in pictures.values()), default=0.0)
    parts = [
        f"<h3>{escape(name)}</h3><figure>{tokens_html({**picture, 'scale': scale})}</figure>"
        for name, picture in pictures.items()
    ]
    return HTML("".join(parts))


def charts_beside(shifts: Mapping[str, pd.DataFrame]) -> HTML:
    """Chart how much of the routing each form changes, by layer."""
    parts = [
        f"<h3>{escape(name)}</h3><figure>{chart_html(plots.routing_shift(rows))}</figure>"
        for name, rows in shifts.items()
    ]
    return HTML("".join(parts) or "<p class='missing'>No layer was traced.</p>")


def _missing(text: str) -> HTML:
    return HTML(f"<p class='missing'>{escape(text)}</p>")
