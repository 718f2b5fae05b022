"""The sections of a report: functions from a sweep to HTML that a notebook shows."""

from __future__ import annotations

import json
from collections.abc import Iterable
from html import escape

import pandas as pd
from IPython.display import HTML

from .. import plots
from .._core.gaps import NO_BOUND, gap_text
from .._core.params import BITS
from .._core.units import human_bytes
from ..experiments.sweep import Sweep
from ..experiments.variants import FEW_BITS
from ..plots.offline import chart_html
from ..plots.permutation import permutation_table
from ..plots.series import error_text, lower_is_better, order_series, setting_label
from ..workbench.views import ErrorsView, SweepView
from .headline import headline as headline
from .html import Cell, bullets, definitions, number_ranges, table
from .numbers import number_text, percent
from .overview import SHIFT_LABELS, Summary, at_bits, by_keep, shift_cells, summarise

_PROVENANCE = ("date", "settings", "versions", "machine")


def score_charts(sweep: Sweep) -> HTML:
    """Chart every task's scores by kept fraction; by bits where all methods go by those."""
    sweep = by_keep(sweep)
    tasks = list(dict.fromkeys(sweep.scores["task"]))
    if not tasks:
        return _missing("No task was scored in this sweep.")
    chances = sweep.facts.get("chance") or {}
    charts = [plots.score_curves(sweep.scores, task, chance=chances.get(task)) for task in tasks]
    return _figures(charts)


def error_charts(sweep: Sweep) -> HTML:
    """Chart the relative error by kept fraction, and by layer where there are several; bits as for scores."""
    charts = ErrorsView.of_sweep(by_keep(sweep)).charts()
    return _figures(charts[name] for name in ("errors", "by layer") if name in charts)


def byte_charts(sweep: Sweep) -> HTML:
    """Chart both counts of bytes, and errors and perplexities by bytes."""
    charts = [plots.size_bars(by_keep(sweep).sizes), ErrorsView.of_sweep(sweep).charts()["bytes"]]
    main = sweep.scores.drop_duplicates("task")
    tasks = [str(row.task) for row in main.itertuples() if lower_is_better(str(row.metric))]
    return _figures([*charts, *(plots.score_by_bytes(sweep.scores, sweep.sizes, task) for task in tasks)])


def front_charts(sweep: Sweep) -> HTML:
    """Chart the Pareto front of each task, and the gain of a budget that is allocated to the layers."""
    charts = dict(SweepView(sweep).charts())
    if sweep.errors["layer"].nunique() < 2:
        del charts["allocation"]
    return _figures(charts.values()) if charts else _missing("No task was scored, and only one layer compressed.")


def speed_charts(sweep: Sweep) -> HTML:
    """Chart speed and memory of a packed checkpoint beside its original's."""
    if sweep.speed.empty:
        return _missing("Nothing was timed; the option --bench of resmoe-lab report measures a packed checkpoint.")
    rows = [
        [
            *(str(row["way"]), f"{row['load_seconds']:.2f} s", human_bytes(row["resident_bytes"])),
            *(f"{row['prompt_tokens_per_second']:,.0f}", f"{row['tokens_per_second']:,.1f}"),
        ]
        for _, row in sweep.speed.iterrows()
    ]
    header = ["way to run", "time to load", "resident after loading", "prompt tokens/s", "new tokens/s"]
    return HTML(_figures([plots.speed_bars(sweep.speed)]).data + table(header, {"": rows}))


def byte_table(sweep: Sweep) -> HTML:
    """Tabulate bytes by method: at the slider's kept fraction, and at all bits that were scored."""
    summary = summarise(sweep)
    header = ["paper's count", "really stored", "not counted", "original experts", "whole model", "original model"]
    parts = []
    if keeps := sorted(set(summary.table.loc[~summary.table["by_bits"], "keep"])):
        bodies = {f"{keep:g}": _byte_rows(summary.at(keep)) for keep in keeps}
        parts.append("<p class='note'>At keep <output data-shows='keep'></output>:</p>")
        parts.append(table(["method", "format", *header], bodies))
    scored = summary.scored()
    rows = scored[scored["by_bits"]]
    if len(rows):
        rank = {name: i for i, name in enumerate(order_series(rows["series"]))}
        rows = rows.sort_values(["series", "keep"], key=lambda c: c.map(rank) if c.name == "series" else c)
        parts.append("<p class='note'>Methods that go by bits a weight, at all that were scored:</p>")
        parts.append(table(["method, bits", "format", *header], {"": _byte_rows(rows, bits=True)}))
    return HTML("".join(parts))


def _byte_rows(rows: pd.DataFrame, *, bits: bool = False) -> list[list[Cell | str]]:
    return [
        [
            f"{row['series']}, {setting_label(row['series'], row['keep'])}" if bits else str(row["series"]),
            *(str(row["format"]), human_bytes(row["paper_bytes"]), human_bytes(row["true_bytes"])),
            *(human_bytes(row["true_bytes"] - row["paper_bytes"]), human_bytes(row["original_bytes"])),
            *(human_bytes(row["model_bytes"]), human_bytes(row["original_model_bytes"])),
        ]
        for _, row in rows.iterrows()
    ]


def bits_table(sweep: Sweep) -> HTML:
    """Tabulate what each method reaches with no more than so many stored bits a weight, at the slider's bits."""
    summary = summarise(sweep)
    top = summary.scored()["bits"].dropna().max()
    if pd.isna(top):
        return _missing("This sweep holds no method.")
    bodies: dict[str, list[list[Cell | str]]] = {}
    shown: list[list[Cell | str]] = []
    for bits in BITS.grid():
        rows = _bits_rows(summary, bits)
        # A body says what holds from its bits on: only where something changes is there another.
        if rows != shown:
            bodies[f"{bits:g}"] = shown = rows
        if bits >= top:
            break
    if not bodies:
        return _missing(f"Nothing in this sweep takes {BITS.high:g} bits a weight or less.")
    low = float(next(iter(bodies)))
    start = min(max(FEW_BITS, low), bits)
    slider = (
        f"<label class='keep still'><span>stored bits a weight, at most</span> <input type='range' id='page-bits' "
        f"min='{low:g}' max='{bits:g}' step='{BITS.step:g}' value='{start:g}'> <output>{start:g}</output></label>"
    )
    state = "scored" if summary.columns else "computed"
    note = "<p class='note'>Center, indices, scales and tables included; the original has 16. Of each method the point "
    note += f"of the least error that was {state} and fits into <output data-shows='bits'></output> bits a weight:</p>"
    header = ["method", "setting", "stored bits", "relative error", *(column.label for column in summary.columns)]
    header += SHIFT_LABELS if summary.has_shift else ()
    return HTML(slider + note + table(header, bodies, by="bits"))


def _bits_rows(summary: Summary, bits: float) -> list[list[Cell | str]]:
    """The rows of what fits into so many bits, the least error first, then the methods of which nothing does."""
    rows = at_bits(summary, bits)
    if rows.empty:
        return []
    ends = summary.best(rows)
    result: list[list[Cell | str]] = []
    for _, row in rows.iterrows():
        numbers = [("error", error_text(row["error"]))]
        numbers += [(column.name, number_text(row[column.name], column.percent)) for column in summary.columns]
        cells = [Cell(text, best=len(rows) > 1 and row[name] == ends[name]) for name, text in numbers]
        start = [str(row["series"]), setting_label(row["series"], row["keep"]), f"{row['bits']:.2f}"]
        result.append([*start, *cells, *shift_cells(summary, row)])
    empty = [""] * (2 + len(summary.columns) + (len(SHIFT_LABELS) if summary.has_shift else 0))
    for series in order_series(set(summary.table["series"]) - set(rows["series"])):
        result += [[series, "none fits", *empty]]
    return result


def similarity_chart(sweep: Sweep) -> HTML:
    """Chart the cosine similarity of each layer's experts."""
    if not sweep.similarity:
        return _missing("The sweep holds no similarities.")
    return _figures([plots.similarity_heatmap(sweep.similarity)])


def permutation_chart(sweep: Sweep) -> HTML:
    """Chart the permutations of each layer, and tabulate how far they move neurons."""
    if not sweep.permutations:
        return _missing("The sweep holds no permutations.")
    facts = permutation_table(sweep.permutations)
    by_layer = facts.groupby("layer")[["displaced", "distance"]].mean()
    rows = [
        [f"layer {layer}", percent(row["displaced"]), percent(row["distance"])] for layer, row in by_layer.iterrows()
    ]
    facts_table = table(["mean over the experts", "neurons moved", "mean shift (random: 33 %)"], {"": rows})
    return HTML(_figures([plots.permutation_map(sweep.permutations)]).data + facts_table)


def certificate_table(sweep: Sweep) -> HTML:
    """Tabulate each center's objective, lower bound and certified gap."""
    if sweep.centers.empty:
        return _missing("The sweep holds no centers.")
    rows = [
        [
            *(
                f"layer {row['layer']}",
                str(row["center"]),
                f"{row['objective']:#.5g}",
                percent(row["relative_objective"]),
            ),
            *(number_text(row["lower_bound"], False, NO_BOUND), gap_text(row["certified_gap"])),
            *(f"{row['iterations']:g}", str(row["solver"]), f"{row['seconds']:.2f} s"),
        ]
        for _, row in sweep.centers.iterrows()
    ]
    header = ["layer", "center", "objective", "share of the experts' norm", "lower bound", "certified gap"]
    return HTML(table([*header, "steps", "solver", "time"], {"": rows}))


def routing_chart(sweep: Sweep) -> HTML:
    """Chart the share of the tokens that each expert receives."""
    if sweep.routing.empty:
        return _missing("The router's load was not measured.")
    return _figures([plots.routing_load(sweep.routing)])


def model_facts(sweep: Sweep) -> HTML:
    """List the facts of the model."""
    return HTML(
        definitions({name: value for name, value in sweep.facts.items() if name not in (*_PROVENANCE, "chance")})
    )


def made_with(sweep: Sweep) -> HTML:
    """List settings, seed, versions, machine and date, and all facts as JSON."""
    facts = definitions({name: sweep.facts[name] for name in _PROVENANCE if name in sweep.facts})
    manifest = escape(json.dumps(sweep.facts, indent=2, sort_keys=True))
    return HTML(f"{facts}<details class='manifest'><summary>Manifest</summary><pre>{manifest}</pre></details>")


def not_measured(sweep: Sweep) -> HTML:
    """List what this report does not measure."""
    settings = sweep.facts.get("settings") or {}
    lines = [
        "Speed of the scored models: scores were taken with the restored experts in the original model.",
        "Spread between seeds: everything here comes from one seed. The intervals of scores (1.96 standard errors) "
        "only cover which rows were tested.",
        "Function: similarity and relative error compare weights, not what the experts compute on real tokens.",
        "Values between the computed kept fractions: sliders show the nearest computed one.",
    ]
    compressed, available = set(sweep.errors["layer"]), set(sweep.facts.get("moe_layers") or [])
    if available - compressed:
        lines.append(f"Layers {number_ranges(available - compressed)} were left as they are.")
    if settings.get("limit"):
        lines.append(f"Scores are of the first {settings['limit']} rows of each task only.")
    if sweep.scores.empty:
        lines.append("Tasks: none was scored.")
    if sweep.centers["lower_bound"].isna().any():
        lines.append("Centers without a lower bound: how much better another could be is not known.")
    return HTML(bullets(lines))


def _figures(charts: Iterable[object]) -> HTML:
    return HTML("".join(f"<figure>{chart_html(chart)}</figure>" for chart in charts))


def _missing(text: str) -> HTML:
    return HTML(f"<p class='missing'>{escape(text)}</p>")
