"""HTML of tables and facts; every text is escaped here, so that no name can become markup."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from .._core.units import human_bytes


@dataclass(frozen=True)
class Cell:
    """One cell of a table: its text, and whether it is the best of its column."""

    text: str
    best: bool = False


def table(header: Sequence[str], bodies: Mapping[str, Iterable[Sequence[Cell | str]]], *, by: str = "keep") -> str:
    """Return a table whose bodies are shown one at a time by a slider of the page.

    Parameters
    ----------
    header
        Column names; the first column holds names, the others numbers.
    bodies
        The slider's value, as text, to rows. An empty text is a body that always shows.
    by
        Which slider: ``"keep"`` or ``"bits"``.
    """
    head = "".join(f"<th scope='col'>{escape(name).replace('_', '_<wbr>')}</th>" for name in header)
    parts = [_body(value, rows, by) for value, rows in bodies.items()]
    narrow = " class='narrow'" if len(header) < 4 else ""
    # What scrolls has to be reached by the keyboard, and to have a name then.
    place = (
        f"<div class='scroll' tabindex='0' role='group' aria-label='Table: {escape(', '.join(header), quote=True)}'>"
    )
    return f"{place}<table{narrow}><thead><tr>{head}</tr></thead>{''.join(parts)}</table></div>"


def _body(value: str, rows: Iterable[Sequence[Cell | str]], by: str) -> str:
    lines = "".join(f"<tr>{''.join(_cell(i, cell) for i, cell in enumerate(row))}</tr>" for row in rows)
    return f"<tbody{f' data-{by}={escape(value)!r}' if value else ''}>{lines}</tbody>"


def _cell(column: int, cell: Cell | str) -> str:
    cell = cell if isinstance(cell, Cell) else Cell(cell)
    if column == 0:
        return f"<th scope='row'>{escape(cell.text)}</th>"
    mark = " class='best'" if cell.best else ""
    return f"<td{mark}>{escape(cell.text)}</td>"


def definitions(facts: Mapping[str, Any]) -> str:
    """Return a definition list of facts, in the order given."""
    items = "".join(
        f"<dt>{escape(_label(name))}</dt><dd>{escape(_text(name, value))}</dd>" for name, value in facts.items()
    )
    return f"<dl class='facts'>{items}</dl>"


def bullets(lines: Iterable[str]) -> str:
    """Return a list of sentences."""
    return "<ul>" + "".join(f"<li>{escape(line)}</li>" for line in lines) + "</ul>"


def number_ranges(numbers: Iterable[int]) -> str:
    """Return whole numbers as ``0-3, 7``."""
    runs: list[list[int]] = []
    for number in sorted(set(numbers)):
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)


def _label(name: str) -> str:
    return str(name).replace("_", " ")


def _text(name: str, value: Any) -> str:
    if value is None:
        return "not set"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        return ", ".join(f"{_label(key)} {_text(key, entry)}" for key, entry in value.items())
    if isinstance(value, int | float):
        return human_bytes(value) if str(name).endswith("bytes") else f"{value:,}"
    if isinstance(value, list | tuple):
        whole = value and all(isinstance(entry, int) and not isinstance(entry, bool) for entry in value)
        return number_ranges(value) if whole else ", ".join(_text("", entry) for entry in value)
    return str(value)
