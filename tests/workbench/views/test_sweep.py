from __future__ import annotations

from pathlib import Path

from resmoe_lab.experiments.sweep import UNIT, Sweep
from resmoe_lab.workbench.views import SweepView, finished_scores


def test_the_front_holds_no_point_that_another_beats(sweep: Sweep, texts) -> None:
    view = SweepView(sweep)
    points, front, metric, original = view.points("storyworld_perplexity")
    assert (metric, original) == ("perplexity", 3.1)
    for row in front.itertuples():
        assert not ((points["true_share"] < row.true_share) & (points["value"] <= row.value)).any()
    message = texts(view.charts()["front storyworld_perplexity"])
    assert "Pareto front: storyworld_perplexity" in message
    assert "score against stored bits; ringed: on the front; dotted: the original" in message
    assert {"resmoe-up", "svd"} <= set(message)


def test_the_allocation_is_never_worse_than_one_keep_for_all(sweep: Sweep, texts) -> None:
    view = SweepView(sweep)
    table = view.allocations()
    assert (table["allocated"] <= table["uniform"] + 1e-12).all()
    assert "Error at a budget of bytes" in texts(view.charts()["allocation"])


def test_finished_scores_are_counted_where_there_are_any(tmp_path: Path) -> None:
    assert finished_scores(tmp_path / "nothing") == 0
    for name in (f"{UNIT}up-0.25.json", f"{UNIT}original-1.json", "sweep.json"):
        (tmp_path / name).write_text("[]")
    assert finished_scores(tmp_path) == 2
