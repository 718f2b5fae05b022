"""The start of a report: what it says of size, quality and plain rounding follows from the sweep's own rows."""

from __future__ import annotations

import re
from dataclasses import replace

import pandas as pd

from resmoe_lab._core.units import human_bytes
from resmoe_lab.experiments.sweep import Sweep
from resmoe_lab.report.answer import answer, leading
from resmoe_lab.report.overview import summarise

from ..plots.synthetic import make_bits_sweep, make_sweep


def _page(sweep: Sweep) -> str:
    return answer(sweep, summarise(sweep))


def _cards(page: str) -> list[tuple[str, str]]:
    return re.findall(r"<div class='figure'>(.*?)</div><div class='caption'>(.*?)</div>", page)


def _with_plain(sweep: Sweep, *, share: float, perplexity: float) -> Sweep:
    """The sweep with a scored row of `rtn` at four bits."""
    size = sweep.sizes.iloc[0].to_dict() | {"method": "rtn", "center": "none", "keep": 0.25, "format": "grouped"}
    whole, model = size["original_bytes"], size["original_model_bytes"]
    size |= {"true_bytes": round(share * whole), "model_bytes": model - whole + round(share * whole)}
    error = {"layer": 0, "method": "rtn", "center": "none", "keep": 0.25, "error": 0.1, "relative_error": 0.01}
    score = {"method": "rtn", "center": "none", "keep": 0.25, "task": "storyworld_perplexity", "metric": "perplexity"}
    score |= {"value": perplexity, "stderr": 0.02, "n": 500}
    rows = {"sizes": size, "errors": error, "scores": score}
    return replace(
        sweep, **{name: pd.concat([getattr(sweep, name), pd.DataFrame([row])]) for name, row in rows.items()}
    )


def test_three_figures_are_the_sweeps_own() -> None:
    sweep = _with_plain(make_sweep(), share=0.3, perplexity=3.2)
    size = sweep.sizes.query("method == 'resmoe-up' and keep == 0.25").iloc[0]
    scores = sweep.scores[sweep.scores["task"] == "storyworld_perplexity"].set_index(["method", "keep"])["value"]
    small, worse, plain = _cards(_page(sweep))
    assert small[0] == f"{human_bytes(size.original_model_bytes)} &rarr; <b>{human_bytes(size.model_bytes)}</b>"
    assert f"experts at {16 * size.true_bytes / size.original_bytes:.2f} stored bits" in small[1]
    assert worse[0] == f"{scores['original', 1.0]:#.3g} &rarr; <b>{scores['resmoe-up', 0.25]:#.3g}</b>"
    assert plain[0].startswith("<b>3.20</b> in ")
    assert plain[1] == "rtn at 4 bits; resmoe-up at 0.25 is larger and worse"


def test_a_difference_within_the_error_bars_is_none() -> None:
    sweep = make_sweep()
    value = sweep.scores.query("method == 'resmoe-up' and keep == 0.25")["value"].iloc[0]
    for share, perplexity, said in (
        (0.9, value + 0.01, "smaller and as good within the error bars"),
        (0.9, value + 1, "smaller and better"),
        (0.2, value - 1, "larger and worse"),
    ):
        page = _page(_with_plain(sweep, share=share, perplexity=perplexity))
        assert f"it is {said}." in page
        assert f"resmoe-up at 0.25 is {said}" in _cards(page)[2][1]


def test_without_a_plain_row_it_says_so() -> None:
    for sweep in (make_sweep(), make_bits_sweep()):  # the second has rtn at two and three bits
        page = _page(sweep)
        assert "How it stands against plain 4-bit was not measured in this sweep." in page
        assert _cards(page)[2] == ("not measured", "no plain 4-bit row in this sweep: add --methods rtn --bits 4")


def test_without_scores_it_speaks_of_errors() -> None:
    page = _page(make_sweep(tasks=False))
    error = make_sweep().errors.query("method == 'resmoe-up' and keep == 0.25")["relative_error"].mean()
    assert _cards(page)[1] == (f"<b>{error:.3f}</b>", "relative error; no task was scored")


def test_it_leads_with_few_bits_where_no_method_keeps_a_part() -> None:
    summary = summarise(make_bits_sweep(by_keep=False))
    row = leading(summary)
    assert row is not None
    assert (row["series"], row["keep"]) == ("resmoe-coded", 2 / 16)
    alone = replace(summary, table=summary.table[summary.table["series"] == "rtn"])
    row = leading(alone)
    assert row is not None
    assert (row["series"], row["keep"]) == ("rtn", 2 / 16)


def test_plain_rounding_is_not_held_against_itself() -> None:
    sweep = _with_plain(make_sweep(), share=0.3, perplexity=3.2)
    tables = {name: getattr(sweep, name) for name in ("errors", "sizes", "scores")}
    only = {name: table[table["method"].isin(["rtn", "original"])] for name, table in tables.items()}
    page = _page(replace(sweep, **only))
    assert "That is plain 4-bit itself" in page
    assert _cards(page)[2][1] == "rtn at 4 bits: the form itself"
