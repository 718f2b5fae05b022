"""What verbs print: one JSON object, or tables for people; progress goes to standard error."""

from __future__ import annotations

import json
import math
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .._core.errors import ResmoeWarning
from .._core.progress import TqdmProgress


@contextmanager
def progress_bar() -> Any:
    progress = TqdmProgress()
    try:
        yield progress
    finally:
        progress.close()


@contextmanager
def warnings_in_a_line() -> Iterator[None]:
    """Say each of this package's warnings in one line on standard error, without the code that it comes from."""

    def tell(message: Any, category: type[Warning], *where: Any, **more: Any) -> None:
        if issubclass(category, ResmoeWarning):
            print(f"resmoe-lab: {message}", file=sys.stderr)  # noqa: T201
        else:
            plain(message, category, *where, **more)

    plain = warnings.showwarning
    with warnings.catch_warnings():
        warnings.simplefilter("always", ResmoeWarning)
        warnings.showwarning = tell
        yield


def show(facts: dict[str, Any], as_json: bool, human: Callable[[], None]) -> None:
    if as_json:
        print(json.dumps(_plain(facts), allow_nan=False))  # noqa: T201
    else:
        human()


def _plain(value: Any) -> Any:
    """JSON's own types: what is not finite becomes null, a path becomes text."""
    if isinstance(value, dict):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return str(value) if isinstance(value, Path) else value


def show_facts(facts: dict[str, Any]) -> None:
    width = max(len(name) for name in facts)
    for name, value in facts.items():
        print(f"{name.replace('_', ' '):<{width}}  {_cell(value)}")  # noqa: T201


def show_table(title: str, rows: list[dict[str, Any]]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    for number, name in enumerate(rows[0] if rows else ()):
        # What a row is about stays readable in a narrow terminal, whatever becomes of the figures.
        header = Text("\n".join(name.replace("_", " ").split()), "bold")
        values = [row[name] for row in rows]
        figures = all(value is None or isinstance(value, int | float) for value in values)
        least = max(len(_cell(value)) for value in values) if figures else None
        table.add_column(header, no_wrap=number == 0, min_width=least)
    for row in rows:
        table.add_row(*(Text(_cell(value)) for value in row.values()))
    Console().print(table)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1e5 else f"{value:.3e}"
    if isinstance(value, int) and not isinstance(value, bool) and value >= 10_000:
        return f"{value:,}"
    return str(value)
