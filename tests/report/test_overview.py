from __future__ import annotations

from dataclasses import replace

import pytest

from resmoe_lab.report.overview import best_for_bytes, summarise

from ..plots.synthetic import KEEPS, METHODS, SCORED_KEEPS, TASKS, make_sweep


def test_the_summary_joins_errors_bytes_and_scores() -> None:
    sweep = make_sweep()
    summary = summarise(sweep)
    assert len(summary.table) == len(METHODS) * len(KEEPS)
    assert summary.keeps() == sorted(SCORED_KEEPS)
    row = summary.at(0.25).set_index("series").loc["resmoe-svd"]
    assert row["error"] == pytest.approx(
        sweep.errors.query("method == 'resmoe-svd' and keep == 0.25")["relative_error"].mean()
    )
    score = sweep.scores.query("method == 'resmoe-svd' and keep == 0.25 and task == 'wikitext2'")["value"].item()
    assert row["task wikitext2"] == score
    assert set(summary.original) == set(TASKS)
    assert [column.lower_is_better for column in summary.columns] == [True, True, False, False, False]


def test_methods_come_in_their_usual_order() -> None:
    assert summarise(make_sweep()).at(0.5)["series"].tolist() == ["resmoe-up", "up", "resmoe-svd", "svd"]


def test_without_scores_every_computed_keep_counts() -> None:
    assert summarise(make_sweep(tasks=False)).keeps() == sorted(KEEPS)


@pytest.mark.parametrize("budget", [0.05, 0.3, 0.44, 0.7, 2.0])
def test_the_best_for_a_budget_is_the_least_error_that_fits(budget: float) -> None:
    sweep = make_sweep()
    best = best_for_bytes(summarise(sweep), budget)
    errors = sweep.errors.groupby(["method", "keep"])["relative_error"].mean()
    fitting = [
        (errors[row.method, row.keep], row.method, row.keep)
        for row in sweep.sizes.itertuples()
        if row.true_bytes / row.original_bytes <= budget + 1e-9
    ]
    if not fitting:
        assert best is None
        return
    assert best is not None
    assert best.error == pytest.approx(min(fitting)[0])
    assert best.true_share <= budget + 1e-9


def test_other_methods_can_win_at_equal_bytes() -> None:
    """Where a center weighs almost half as much as all experts, storing it does not pay."""
    sweep = make_sweep()
    heavy = sweep.sizes.copy()
    heavy["true_bytes"] += 0.4 * heavy["original_bytes"] * heavy["method"].str.startswith("resmoe")
    best = best_for_bytes(summarise(replace(sweep, sizes=heavy)), 0.85)
    assert best is not None
    assert best.series == "up"
