"""Every number that the papers print and that can be reached here, beside ours: from kept results, never typed.

    python -m benchmarks.papers            # prints the table
    python -m benchmarks.papers --write    # puts it into README.md, between its two marks

Figures are read from `benchmarks/results` (:mod:`benchmarks.records`), where the benchmarks write them; Tables 5 and 7
of ResMoE are computed from the models' shapes alone. A number without results is left out.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from resmoe_lab._core.files import atomic_write
from resmoe_lab.experiments.published import PUBLISHED, flops_table, memory_table
from resmoe_lab.neural.experiments import free_weights, not_gaussians, posteriors

from .records import RESULTS, kept

README = Path(__file__).parents[1] / "README.md"
BEGIN, END = "<!-- papers: begin, written by python -m benchmarks.papers --write -->", "<!-- papers: end -->"

#: Of the OT Fusion paper and its supplement, accuracies in percent: (place, what, case, metric, printed).
_FUSION = (
    ("S4", "vanilla average", "weights", "vanilla average", 73.84),
    ("S4", "ensemble", "weights", "ensemble", 97.88),
    ("S4", "fused by weights", "weights", "OT average", 96.63),
    ("S4", "aligned by weights", "weights", "aligned A", 97.72),
    ("S6", "fused by 200 activations", "activations, 200 samples", "OT average", 96.21),
    ("S3", "Sinkhorn 0.1, 200 activations", "activations, 200 samples, regularization 0.1", "OT average", 95.70),
    ("S3", "the same, aligned", "activations, 200 samples, regularization 0.1", "aligned A", 96.63),
    ("S3", "Sinkhorn 0.05, 200 activations", "activations, 200 samples, regularization 0.05", "OT average", 95.78),
    ("S3", "the same, aligned", "activations, 200 samples, regularization 0.05", "aligned A", 97.01),
    ("S2", "Sinkhorn 0.05, 50 activations", "activations, 50 samples, regularization 0.05", "OT average", 93.47),
    ("S2", "the same, aligned", "activations, 50 samples, regularization 0.05", "aligned A", 96.04),
    ("S2", "Sinkhorn 0.05, 10 activations", "activations, 10 samples, regularization 0.05", "OT average", 75.04),
    ("S2", "the same, aligned", "activations, 10 samples, regularization 0.05", "aligned A", 88.18),
    ("S4", "Sinkhorn 0.05 by weights", "weights, regularization 0.05", "OT average", 95.66),
    ("S4", "the same, aligned", "weights, regularization 0.05", "aligned A", 96.32),
)
_UNKNOWN_UNIT = "the paper does not say in which unit distances by weights are: met between 0.002 and 0.005 of ours"
#: Why a figure of a case and metric is not the printed one.
_NOTES = {
    ("weights, regularization 0.05", "OT average"): _UNKNOWN_UNIT,
    ("weights, regularization 0.05", "aligned A"): _UNKNOWN_UNIT,
}
#: S7, four networks: proportions, and the printed ensemble, vanilla average and OT average.
_FOUR = {
    "0.7 0.1 0.2 0.1": (95.0, 80.6, 93.6),
    "0.6 0.1 0.2 0.1": (95.03, 78.44, 92.72),
    "0.7 0.15 0.2 0.15": (94.91, 76.14, 91.67),
    "0.7 0.1 0.3 0.1": (95.15, 77.93, 92.21),
}
_FOUR_METRICS = ("ensemble", "vanilla average", "OT average into A")


class Row(NamedTuple):
    """One printed number: where it stands, ours of each seed, and the command that measures them."""

    paper: str
    place: str
    what: str
    printed: float
    ours: Sequence[float]
    command: str
    seconds: float | None = None
    note: str = ""


def rows() -> list[Row]:
    """Return all printed numbers that have results."""
    return [*_resmoe(), *_fusion(), *_nwb(), *_not()]


def _resmoe() -> list[Row]:
    """One row for all methods of a table that have the same figures."""
    tables: dict[str, Callable[[str], pd.DataFrame]] = {
        "Table 5, MB a layer": memory_table,
        "Table 7, TFLOPs (Mixtral) or GFLOPs": flops_table,
    }
    made = []
    for place, function in tables.items():
        for model in PUBLISHED:
            groups = function(model).groupby(["printed", "computed", "note"], sort=False)["method"]
            for (printed, computed, note), methods in groups:
                what = f"{model}: {', '.join(methods)}"
                made.append(Row("ResMoE", place, what, printed, [computed], "from the shapes alone", note=note))
    return made


def _fusion() -> list[Row]:
    made = []
    for place, what, case, metric, printed in _FUSION:
        command = f"fusion {'sinkhorn' if 'regularization' in case else 'published'}"
        row = _row("OT Fusion", place, what, printed, command, experiment="published", case=case, metric=metric)
        made.append(row and row._replace(note=_NOTES.get((case, metric), "")))
    for case, printed_values in _FOUR.items():
        for metric, printed in zip(_FOUR_METRICS, printed_values, strict=True):
            what = f"four networks, {case}: {metric.removesuffix(' into A')}"
            for experiment, command in (
                ("four, normalised", "fusion many"),
                ("four, 0 to 255, tested on normalised (as published)", "fusion pixels"),
            ):
                note = "" if "pixels" in command else "trained on normalised pixels, the published code on 0 to 255"
                named = f"{what}{' (pixels 0 to 255)' if 'pixels' in command else ''}"
                keys = {"experiment": experiment, "case": case, "metric": metric}
                row = _row("OT Fusion", "S7", named, printed, command, **keys)
                made.append(row and row._replace(note=note))
    return [row for row in made if row is not None]


def _nwb() -> list[Row]:
    made = []
    for weights, printed in free_weights.PUBLISHED.items():
        name = "/".join(f"{weight:g}" for weight in weights)
        keys = {"experiment": "nwb-f", "case": "nwb-f", "metric": f"KL at {name}"}
        made.append(_row("NWB", "B.1", f"NWB-F, KL at {name}", printed, "neural nwb-f", source="neural", **keys))
    for solver, printed in posteriors.PUBLISHED.items():
        keys = {"experiment": "posteriors", "case": solver, "metric": "BW2-UVP"}
        what = f"subset posteriors, {solver}, BW2-UVP %"
        made.append(_row("NWB", "Table 1", what, printed, "neural posteriors", source="neural", **keys))
    return [row for row in made if row is not None]


def _not() -> list[Row]:
    made = []
    for solver, printed_values in not_gaussians.PUBLISHED.items():
        for dimension, printed in printed_values.items():
            for plain in ("", " plain"):
                case = f"{solver}{plain} D={dimension}"
                keys = {"experiment": "not-gaussians", "case": case, "metric": "L2-UVP of maps"}
                what = f"{case}, L2-UVP %"
                made.append(_row("NOT", "Table 3", what, printed, "neural not-gaussians", source="neural", **keys))
    return [row for row in made if row is not None]


def _row(
    paper: str, place: str, what: str, printed: float, command: str, *, source: str = "fusion", **keys: str
) -> Row | None:
    """Return a number with its results; None if there are none."""
    table = kept(source)
    for column, value in keys.items():
        table = table[table[column] == value] if column in table else table.iloc[:0]
    if not len(table):
        return None
    return Row(paper, place, what, printed, table["value"].tolist(), command, float(table["seconds"].mean()))


def markdown(table: Sequence[Row]) -> str:
    """Return the table of rows, ours with the deviation over seeds or draws."""
    lines = [
        "| paper | number | printed | here | runs | minutes a run | command |",
        "|---|---|---:|---:|---:|---:|---|",
    ]
    for row in table:
        minutes = "" if row.seconds is None else f"{row.seconds / 60:.1f}"
        command = row.command if row.seconds is None else f"`python -m benchmarks.{row.command}`"
        cells = (row.paper, f"{row.place}: {row.what}", f"{row.printed:g}", _figure(row.ours), len(row.ours), minutes)
        lines.append(f"| {' | '.join(map(str, cells))} | {command} | {row.note} |")
    return "\n".join(lines)


def _figure(values: Sequence[float]) -> str:
    series = pd.Series(values, dtype=float)
    if len(series) == 1:
        return f"{series[0]:.4g}"
    mean = f"{series.mean():.2f}" if series.mean() > 1 else f"{series.mean():.2g}"
    return f"{mean} ± {series.std(ddof=1):.2g}"


def write(text: str, path: Path = README) -> None:
    """Put a table between the two marks of a file."""
    before, _, rest = path.read_text().partition(BEGIN)
    _, found, after = rest.partition(END)
    if not found:
        raise SystemExit(f"{path} has no {BEGIN} followed by {END}: nothing is written")
    with atomic_write(path) as part:
        part.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{after}")


def main() -> None:
    """Print the table, or write it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="write the table into README.md")
    arguments = parser.parse_args()
    text = markdown(rows())
    if arguments.write:
        write(text)
    else:
        print(f"{text}\n\nfrom {', '.join(path.name for path in sorted(RESULTS.glob('*.json')))}")


if __name__ == "__main__":
    main()
