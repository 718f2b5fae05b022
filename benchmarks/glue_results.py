"""The results of ``benchmarks/glue.py`` on disk, and the tables of them: python -m benchmarks.glue_results."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from resmoe_lab._core.errors import UsageError
from resmoe_lab._core.files import atomic_write
from resmoe_lab._core.machine import machine, versions

RESULTS = Path(__file__).parent / "results" / "glue-minilm.json"
#: The rows of models that are not compressed: as they are, and with experts that do nothing.
FINE_TUNED, NO_EXPERTS = "fine-tuned", "no experts"


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The rows measured so far."""
    return json.loads(path.read_text("utf-8"))["rows"] if path.is_file() else []


def check_settings(path: Path, settings: dict[str, Any]) -> None:
    """Refuse to add to results of other settings.

    Raises
    ------
    UsageError
        Naming the settings that differ.
    """
    if not path.is_file():
        return
    there = json.loads(path.read_text("utf-8"))["settings"]
    if differing := [name for name in settings if there.get(name) != settings[name]]:
        raise UsageError(f"{path} holds results with another {', '.join(differing)}: name another file with --results")


def write_row(path: Path, row: dict[str, Any], settings: dict[str, Any]) -> None:
    """Add a row to those on disk, where another process may have added some too."""
    by_form = {_form(other): other for other in [*read_rows(path), row]}
    facts = {"machine": machine(), "versions": versions(), "settings": settings}
    rows = [by_form[form] for form in sorted(by_form)]
    path.parent.mkdir(exist_ok=True)
    with atomic_write(path) as part:
        part.write_text(json.dumps(facts | {"rows": rows}, indent=1) + "\n", "utf-8")


def _form(row: dict[str, Any]) -> tuple[str, int, float, str]:
    """What a row is of; the fine-tuned models, which have no budget, come first."""
    return row["task"], row["seed"], row["budget"] or 0.0, row["method"]


def tables(rows: Sequence[dict[str, Any]]) -> str:
    """The tables of every budget: mean and standard deviation over seeds, from the stored rows alone."""
    tasks = list(dict.fromkeys(row["task"] for row in rows))
    budgets = sorted({row["budget"] for row in rows if row["budget"] is not None}, reverse=True)
    return "\n\n".join(
        ["\n".join(uncompressed(rows, tasks)), *("\n".join(table(rows, tasks, bits)) for bits in budgets)]
    )


def uncompressed(rows: Sequence[dict[str, Any]], tasks: Sequence[str]) -> Iterator[str]:
    """The table of the fine-tuned models beside the majority class, and without what their experts compute."""
    yield "| task | metric | rows trained on | test rows | seeds | majority class | fine-tuned | with empty experts |"
    yield "|---|---|---|---|---|---|---|---|"
    for task in tasks:
        whole, empty = (
            [row for row in rows if (row["task"], row["method"]) == (task, name)] for name in (FINE_TUNED, NO_EXPERTS)
        )
        for metric in whole[0]["scores"]:
            cells = [task, metric, f"{whole[0]['train_rows']:,}", f"{whole[0]['test_rows']:,}", str(len(whole))]
            cells += [
                f"{whole[0]['majority'][metric]:.3f}",
                *(spread([row["scores"][metric] for row in each]) for each in (whole, empty)),
            ]
            yield f"| {' | '.join(cells)} |"


def table(rows: Sequence[dict[str, Any]], tasks: Sequence[str], budget: float) -> Iterator[str]:
    """The table of one budget: the main figure of every form and its difference to the fine-tuned model of its seed."""
    own = {(row["task"], row["seed"]): main_figure(row) for row in rows if row["method"] == FINE_TUNED}
    found = [row for row in rows if row["budget"] == budget and "scores" in row]
    original = next(row["bytes"] for row in rows if row["method"] == FINE_TUNED)
    yield f"| at most {budget:g} bits a weight | bytes | {' | '.join(f'{task} | difference' for task in tasks)} |"
    yield f"|---|---|{'---|' * 2 * len(tasks)}"
    wholes = [spread([value for (name, _), value in own.items() if name == task]) for task in tasks]
    yield f"| {FINE_TUNED} (16 bits) | {original:,} | {' | '.join(f'{value} | ' for value in wholes)} |"
    for method in dict.fromkeys(row["method"] for row in found):
        cells = [method, f"{np.mean([row['bytes'] for row in found if row['method'] == method]):,.0f}"]
        for task in tasks:
            same = [row for row in found if (row["method"], row["task"]) == (method, task)]
            figures = [main_figure(row) for row in same]
            cells += [spread(figures), spread([main_figure(row) - own[task, row["seed"]] for row in same], sign="+")]
        yield f"| {' | '.join(cells)} |"


def main_figure(row: dict[str, Any]) -> float:
    """The first of a row's scores."""
    return float(next(iter(row["scores"].values())))


def spread(values: Sequence[float], sign: str = "") -> str:
    """Mean and standard deviation of values over seeds; a dash where there are none."""
    if not values:
        return "-"
    deviation = f" ± {np.std(values, ddof=1):.3f}" if len(values) > 1 else ""
    return f"{np.mean(values):{sign}.3f}{deviation}"


if __name__ == "__main__":
    print(tables(read_rows(RESULTS)))
