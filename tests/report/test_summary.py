"""The table at the end of a run, from a synthetic sweep whose figures are known."""

import pytest

from resmoe_lab.experiments.sweep import Sweep
from resmoe_lab.report.summary import summary_rows

from ..plots import synthetic


def test_one_row_a_method_with_both_ways_of_counting(tmp_path) -> None:
    sweep: Sweep = synthetic.make_sweep()
    rows = {row["method"]: row for row in summary_rows(sweep)}
    assert {"original", "center-only"} <= set(rows)
    for method in set(sweep.errors.method):
        errors = sweep.errors[(sweep.errors.method == method) & (sweep.errors.keep == 0.25)]
        assert rows[method]["relative error"] == pytest.approx(errors.relative_error.mean(), abs=6e-4)
        size = sweep.sizes[(sweep.sizes.method == method) & (sweep.sizes.keep == 0.25)].iloc[0]
        assert rows[method]["true MB"] == pytest.approx(size.true_bytes / 1e6, abs=1e-3)
        assert rows[method]["paper MB"] <= rows[method]["true MB"]
    assert rows["original"]["true MB"] == pytest.approx(sweep.sizes.original_bytes.iloc[0] / 1e6, abs=1e-3)
    assert summary_rows(sweep.save(tmp_path / "sweep")) == list(rows.values())
