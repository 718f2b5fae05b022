"""The sections of a report: functions from a sweep to HTML that a notebook shows."""

from __future__ import annotations

import json
from collections.abc import Iterable
from html import escape

import pandas as pd
from IPython.display import HTML

from .. import plots
from .._core.params import KEEP
from ..experiments.sweep import Sweep
from ..methods import METHODS
from ..plots.offline import chart_html
from ..plots.permutation import permutation_table
from ..plots.series import lower_is_better
from ..plots.theme import SERIES_SEPARATOR
from ..workbench.views import ErrorsView, SweepView
from .html import Cell, bullets, definitions, human_bytes, number_ranges, table
from .overview import Summary, at_bits, best_for_bytes, summarise

#: Bits a weight that the slider of equal bytes stops at.
_BITS = (0.5, 1, 1.5, 2, 2.5, 3, 3.5, 4, 4.5, 5, 6, 7, 8, 10, 12, 14, 16)
_PROVENANCE = ("date", "settings", "versions", "machine")


def headline(sweep: Sweep) -> HTML:
    """Summarise error and bytes at the default kept fraction, then show the table at any kept fraction."""
    summary = summarise(sweep)
    keeps = summary.keeps()
    if not keeps:
        return HTML("<p class='lead'>This sweep holds no method.</p>")
    keep = min(keeps, key=lambda value: abs(value - KEEP.default))
    lead = "".join(f"<p class='lead'>{sentence}</p>" for sentence in _answer(summary, keep))
    bodies = {f"{value:g}": _summary_rows(summary, value) for value in keeps}
    header = ["method", "relative error", *(column.label for column in summary.columns)]
    header += ["paper's count", "really stored", "whole model"]
    state = "scored" if summary.columns else "computed"
    shown = f"<p class='note'>At keep <output data-shows='keep'></output>, the nearest that was {state}:</p>"
    note = "Bold: best of its column. Bytes are shares of the original's; all sliders on this page move together."
    parts = [
        f"<h1>{_model(sweep)}</h1>",
        lead,
        _cards(summary, keep),
        _page_slider(summary),
        shown,
        table(header, bodies),
    ]
    return HTML("".join(parts) + f"<p class='note'>{note}</p>")


def _page_slider(summary: Summary) -> str:
    """Return the slider that sets the kept fraction of all charts and tables of the page."""
    slider = plots.keep_slider(summary.table["keep"])
    low, high = slider.values[0], slider.values[-1]
    return (
        f"<label class='keep'><span>kept fraction</span> <input type='range' id='page-keep' min='{low:g}' "
        f"max='{high:g}' step='{slider.step:g}' value='{slider.start:g}'> <output>{slider.start:g}</output></label>"
    )


def _model(sweep: Sweep) -> str:
    return f"What ResMoE does to {escape(str(sweep.facts.get('model', 'this model')))}"


def _answer(summary: Summary, keep: float) -> Iterable[str]:
    rows = summary.at(keep).dropna(subset=["error"]).sort_values("error")
    best = rows.iloc[0]
    first = (
        f"Keeping {keep:.0%} of the parameters, <b>{escape(best['series'])}</b> stays closest to the original experts: "
    )
    first += f"relative error {best['error']:.3f}"
    if len(rows) > 1:
        first += f", against {rows.iloc[1]['error']:.3f} for {escape(rows.iloc[1]['series'])}"
    yield first + "."
    rival = best_for_bytes(summary, best["true_share"])
    if rival is None:
        return
    stored = f"It really stores {best['true_share']:.1%} of the experts' bytes; "
    stored += f"the paper's way of counting says {best['paper_share']:.1%}."
    if rival.series == best["series"]:
        yield f"{stored} No other method in this sweep does better with as many bytes{_unless_quantized(summary)}."
    else:
        yield (
            f"{stored} With as many bytes, <b>{escape(rival.series)}</b> does better: "
            f"relative error {rival.error:.3f} at keep {rival.keep:g}."
        )


def _unless_quantized(summary: Summary) -> str:
    """Say so where nothing that rounds every weight was compared."""
    names = {str(name).split(SERIES_SEPARATOR)[0] for name in summary.table["series"]}
    rounded = any(name in METHODS and METHODS[name].method.by_bits for name in names)
    return "" if rounded else " (no plain quantizer was among them)"


def _cards(summary: Summary, keep: float) -> str:
    rows = summary.at(keep)
    cards = []
    for column in summary.columns[:4]:
        values = rows.dropna(subset=[column.name])
        if values.empty:
            continue
        best = values.sort_values(column.name, ascending=column.lower_is_better).iloc[0]
        original = summary.original.get(column.label)
        prefix = "" if original is None else f"{_number(original, column.percent)} &rarr; "
        number = f"{prefix}<b>{_number(best[column.name], column.percent)}</b>"
        caption = f"{escape(column.label)}, {escape(best['series'])} at keep {keep:g}"
        cards.append(f"<div class='card'><div class='figure'>{number}</div><div class='caption'>{caption}</div></div>")
    return f"<div class='cards'>{''.join(cards)}</div>" if cards else ""


def _summary_rows(summary: Summary, keep: float) -> list[list[Cell | str]]:
    rows = summary.at(keep)
    ends = {"error": rows["error"].min(), "true_share": rows["true_share"].min()}
    ends |= {c.name: rows[c.name].min() if c.lower_is_better else rows[c.name].max() for c in summary.columns}

    def cell(row: pd.Series, name: str, text: str) -> Cell:
        return Cell(text, best=name in ends and len(rows) > 1 and row[name] == ends[name])

    result: list[list[Cell | str]] = []
    if summary.original:
        scores = [_number(summary.original.get(c.label), c.percent) for c in summary.columns]
        result.append(["original", _number(0.0, False), *scores, _percent(1.0), _percent(1.0), _percent(1.0)])
    for _, row in rows.iterrows():
        scored = [cell(row, c.name, _number(row[c.name], c.percent)) for c in summary.columns]
        shares = [cell(row, name, _percent(row[name])) for name in ("paper_share", "true_share", "model_share")]
        result.append([str(row["series"]), cell(row, "error", _number(row["error"], False)), *scored, *shares])
    return result


def score_charts(sweep: Sweep) -> HTML:
    """Chart every task's scores by kept fraction."""
    tasks = list(dict.fromkeys(sweep.scores["task"]))
    if not tasks:
        return _missing("No task was scored in this sweep.")
    chances = sweep.facts.get("chance") or {}
    charts = [plots.score_curves(sweep.scores, task, chance=chances.get(task)) for task in tasks]
    return _figures(charts)


def error_charts(sweep: Sweep) -> HTML:
    """Chart the relative error by kept fraction, and by layer where there are several."""
    charts = ErrorsView.of_sweep(sweep).charts()
    return _figures(charts[name] for name in ("errors", "by layer") if name in charts)


def byte_charts(sweep: Sweep) -> HTML:
    """Chart both counts of bytes, and errors and perplexities by bytes."""
    charts = [plots.size_bars(sweep.sizes), ErrorsView.of_sweep(sweep).charts()["bytes"]]
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
    """Tabulate the bytes of the compressed experts by method, at the slider's kept fraction."""
    sizes = plots.size_table(sweep.sizes)
    bodies = {}
    for keep, rows in sizes.groupby("keep"):
        bodies[f"{keep:g}"] = [
            [
                *(
                    str(row["series"]),
                    str(row["format"]),
                    human_bytes(row["paper_bytes"]),
                    human_bytes(row["true_bytes"]),
                ),
                *(human_bytes(row["true_bytes"] - row["paper_bytes"]), human_bytes(row["original_bytes"])),
                *(human_bytes(row["model_bytes"]), human_bytes(row["original_model_bytes"])),
            ]
            for _, row in rows.iterrows()
        ]
    header = ["method", "format", "paper's count", "really stored", "not counted", "original experts"]
    return HTML(
        "<p class='note'>At keep <output data-shows='keep'></output>:</p>"
        + table([*header, "whole model", "original model"], bodies)
    )


def bits_table(sweep: Sweep) -> HTML:
    """Tabulate what each method reaches with no more than so many stored bits a weight, at the slider's bits."""
    summary = summarise(sweep)
    bodies = {}
    for bits in _BITS:
        rows = at_bits(summary, bits)
        if len(rows):
            bodies[f"{bits:g}"] = _bits_rows(summary, rows)
    if not bodies:
        return _missing("Nothing in this sweep was scored.")
    stops = [float(bits) for bits in bodies]
    start = min(stops, key=lambda value: abs(value - 4))
    slider = (
        f"<label class='keep still'><span>stored bits a weight, at most</span> <input type='range' id='page-bits' "
        f"min='{stops[0]:g}' max='{stops[-1]:g}' step='0.5' value='{start:g}'> <output>{start:g}</output></label>"
    )
    note = "<p class='note'>Center, indices, scales and tables included; the original has 16. Of each method the best "
    note += "point that was scored and fits into <output data-shows='bits'></output> bits a weight:</p>"
    header = ["method", "keep", "stored bits", "relative error", *(column.label for column in summary.columns)]
    return HTML(slider + note + table(header, bodies, by="bits"))


def _bits_rows(summary: Summary, rows: pd.DataFrame) -> list[list[Cell | str]]:
    ends = {"error": rows["error"].min()}
    ends |= {c.name: rows[c.name].min() if c.lower_is_better else rows[c.name].max() for c in summary.columns}
    result: list[list[Cell | str]] = []
    for _, row in rows.iterrows():
        numbers = [("error", _number(row["error"], False))]
        numbers += [(column.name, _number(row[column.name], column.percent)) for column in summary.columns]
        cells = [Cell(text, best=len(rows) > 1 and row[name] == ends[name]) for name, text in numbers]
        result.append([str(row["series"]), f"{row['keep']:.3g}", f"{row['bits']:.2f}", *cells])
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
        [f"layer {layer}", _percent(row["displaced"]), _percent(row["distance"])] for layer, row in by_layer.iterrows()
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
                _percent(row["relative_objective"]),
            ),
            *(_number(row["lower_bound"], False, "no bound"), _percent(row["certified_gap"], 2)),
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


def _number(value: float | None, percent: bool, missing: str = "not measured") -> str:
    if value is None or pd.isna(value):
        return missing
    if percent:
        return _percent(value)
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:#.3g}" if value else "0"


def _percent(value: float, digits: int = 1) -> str:
    return "not known" if pd.isna(value) else f"{value:.{digits}%}"
