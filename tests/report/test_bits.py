"""Reports of sweeps with methods that go by bits a weight."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from resmoe_lab.experiments.sweep import Sweep
from resmoe_lab.report import build_report, sections
from resmoe_lab.report.overview import at_bits, by_keep, summarise
from resmoe_lab.report.summary import summary_rows

from ..plots.synthetic import BITS, METHODS, SCORED_KEEPS, make_bits_sweep


@pytest.fixture(scope="module")
def sweep() -> Sweep:
    return make_bits_sweep()


def _bodies(page: str, by: str) -> dict[str, list[list[str]]]:
    """A table's bodies by the slider's value: their cells' text."""
    bodies = re.findall(rf"<tbody data-{by}='([^']*)'>(.*?)</tbody>", page)
    rows = {value: re.findall(r"<tr>(.*?)</tr>", body) for value, body in bodies}
    return {v: [re.findall(r"<t[hd][^>]*>([^<]*)</t[hd]>", row) for row in some] for v, some in rows.items()}


@pytest.mark.parametrize("bits", [0.5, 1, 2, 2.5, 3, 4, 16])
def test_at_so_many_bits_each_method_has_its_best_scored_point_that_fits(sweep: Sweep, bits: float) -> None:
    rows = at_bits(summarise(sweep), bits).set_index("series")
    scored = set(zip(sweep.scores["method"], sweep.scores["keep"], strict=True))
    errors = sweep.errors.groupby(["method", "keep"])["relative_error"].mean()
    fitting: dict[str, list[float]] = {}
    for size in sweep.sizes.itertuples():
        if (size.method, size.keep) in scored and 16 * size.true_bytes / size.original_bytes <= bits + 1e-6:
            fitting.setdefault(size.method, []).append(errors[size.method, size.keep])
    assert {name: min(values) for name, values in fitting.items()} == pytest.approx(rows["error"].to_dict())
    assert (rows["bits"] <= bits + 1e-6).all()
    assert rows["error"].is_monotonic_increasing


def test_the_table_of_bits_shows_no_stale_point(sweep: Sweep) -> None:
    page = sections.bits_table(sweep).data
    bodies = _bodies(page, "bits")
    summary = summarise(sweep)
    for stop, rows in bodies.items():
        fitting = at_bits(summary, float(stop))
        assert [row[0] for row in rows[: len(fitting)]] == fitting["series"].tolist()
        assert {row[0] for row in rows} == {*METHODS, *BITS}
        assert all(row[1] == "none fits" for row in rows[len(fitting) :])
        assert [row[2] for row in rows[: len(fitting)]] == [f"{bits:.2f}" for bits in fitting["bits"]]
    # Between two stops nothing changes: the page shows the last one that the slider has passed.
    stops = sorted(map(float, bodies))
    for bits in (number / 2 for number in range(1, 33)):
        passed = [stop for stop in stops if stop <= bits]
        if passed:
            then, now = at_bits(summary, passed[-1]), at_bits(summary, bits)
            assert then["keep"].tolist() == now["keep"].tolist()
    rtn = next(row for row in bodies["3.5"] if row[0] == "rtn")
    assert rtn[1:3] == ["3 bits", "3.50"]


def test_the_slider_of_kept_fractions_knows_none_of_bits(sweep: Sweep) -> None:
    page = sections.headline(sweep).data
    bodies = _bodies(page, "keep")
    assert set(bodies) == {f"{keep:g}" for keep in SCORED_KEEPS}
    assert all({row[0] for row in rows} == {"original", *METHODS} for rows in bodies.values())
    assert "step='0.05'" in page
    assert set(by_keep(sweep).errors["method"]) == set(METHODS)


def test_the_headline_speaks_of_kept_parameters_only_where_some_are_dropped(sweep: Sweep) -> None:
    page = sections.headline(sweep).data
    assert "Keeping 25% of the parameters, <b>resmoe-up</b> stays closest" in page
    assert "With as many bytes, <b>resmoe-coded</b> does better: relative error" in page
    assert "With no more than 2 stored bits a weight" in page
    alone = sections.headline(make_bits_sweep(by_keep=False)).data
    assert "Keeping" not in alone
    assert "page-keep" not in alone
    assert "<b>resmoe-coded</b> stays closest: relative error 0.019" in alone
    assert "resmoe-coded at 2 bits" in alone


def test_nobody_is_called_the_best_at_equal_bytes_without_a_plain_quantizer(sweep: Sweep) -> None:
    def page(*methods: str) -> str:
        tables = {name: getattr(sweep, name) for name in ("errors", "sizes", "scores")}
        return sections.headline(replace(sweep, **{n: t[t["method"].isin(methods)] for n, t in tables.items()})).data

    assert "What plainly rounded weights would lose in as many bytes was not measured." in page("resmoe-up", "up")
    assert "No other method" not in page("resmoe-up", "up")
    assert "No other method" not in page("resmoe-coded", "up")
    dear = sweep.sizes.assign(true_bytes=sweep.sizes["true_bytes"].where(sweep.sizes["method"] != "rtn", 10**9))
    with_rtn = replace(sweep, sizes=dear[dear["method"] != "resmoe-coded"])
    assert "No other method in this sweep does better with as many bytes." in sections.headline(with_rtn).data


def test_bytes_of_methods_by_bits_are_listed_at_all_that_were_scored(sweep: Sweep) -> None:
    page = sections.byte_table(sweep).data
    for method, (curve, scored, _) in BITS.items():
        for bits in curve:
            assert (f"{method}, {bits:g} bit" in page) == (bits in scored)
    assert page.count("data-keep=") == sweep.sizes[sweep.sizes["method"].isin(METHODS)]["keep"].nunique()


def test_the_summary_has_a_row_for_each_number_of_bits(sweep: Sweep) -> None:
    rows = {row["method"]: row for row in summary_rows(sweep)}
    assert {"rtn, 2 bits", "rtn, 3 bits", "resmoe-coded, 1 bit", "resmoe-coded, 2 bits"} <= set(rows)
    assert {"up", "resmoe-up", "original"} <= set(rows)
    assert rows["rtn, 3 bits"]["bits"] == 3.5
    assert rows["resmoe-coded, 1 bit"]["bits"] == 1
    assert rows["original"]["bits"] == 16
    assert rows["rtn, 2 bits"]["relative error"] == pytest.approx(0.9 / 16, abs=1e-3)


def test_a_report_of_nothing_but_methods_by_bits_is_whole(tmp_path: Path) -> None:
    out = build_report(make_bits_sweep(by_keep=False), tmp_path / "report.html")
    page = out.read_text("utf-8")
    assert 'id="page-bits"' in page
    assert 'id="page-keep"' not in page
    assert out.stat().st_size < 3_000_000
