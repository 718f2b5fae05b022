from __future__ import annotations

from dataclasses import replace

import pytest

from resmoe_lab._core.gaps import gap_text
from resmoe_lab.experiments.sweep import Sweep
from resmoe_lab.report import sections

from ..plots.synthetic import make_sweep

_ALL = [
    *(sections.headline, sections.score_charts, sections.error_charts, sections.byte_charts, sections.byte_table),
    *(sections.similarity_chart, sections.permutation_chart, sections.certificate_table, sections.routing_chart),
    *(sections.speed_charts, sections.bits_table, sections.front_charts),
    *(sections.model_facts, sections.made_with, sections.not_measured),
]


@pytest.fixture(scope="module")
def sweep() -> Sweep:
    return make_sweep(layers=2, experts=3, width=12)


def _renamed(sweep: Sweep, evil: str) -> Sweep:
    tables = {}
    for name in ("errors", "scores", "sizes", "centers"):
        table = getattr(sweep, name)
        for column in ("method", "center", "task", "format", "solver"):
            if column in table:
                table = table.assign(
                    **{column: table[column].replace(["up", "wasserstein", "wikitext2", "bitmask", "lapx"], evil)}
                )
        tables[name] = table
    return replace(sweep, facts=sweep.facts | {"model": evil, evil: evil, "machine": evil}, **tables)


@pytest.mark.parametrize("section", _ALL, ids=lambda section: section.__name__)
def test_names_from_outside_stay_text(sweep: Sweep, section) -> None:
    evil = "</script><img src=x onerror=alert(1)>"
    assert "<img" not in section(_renamed(sweep, evil)).data


@pytest.mark.parametrize("section", _ALL, ids=lambda section: section.__name__)
def test_a_bare_sweep_leaves_no_section_without_words(section) -> None:
    bare = make_sweep(layers=1, experts=2, width=6, tasks=False)
    bare = replace(
        bare, similarity={}, permutations={}, centers=bare.centers[:0], routing=bare.routing[:0], speed=bare.speed[:0]
    )
    assert len(section(bare).data) > 20


def test_the_headline_names_the_least_error_and_its_bytes(sweep: Sweep) -> None:
    page = sections.headline(sweep).data
    least = sweep.errors.query("keep == 0.25").groupby("method")["relative_error"].mean().sort_values()
    size = sweep.sizes.query("keep == 0.25").set_index("method").loc[least.index[0]]
    assert f"<b>{least.index[0]}</b> stays closest" in page
    assert f"relative error {least.iloc[0]:.3f}, against {least.iloc[1]:.3f} for {least.index[1]}" in page
    assert f"really stores {size['true_bytes'] / size['original_bytes']:.1%}" in page
    assert f"counting says {size['paper_bytes'] / size['original_bytes']:.1%}" in page


def test_the_headline_says_when_another_method_wins_at_equal_bytes(sweep: Sweep) -> None:
    sizes = sweep.sizes.copy()
    sizes["true_bytes"] += 0.4 * sizes["original_bytes"] * sizes["method"].str.startswith("resmoe")
    page = sections.headline(replace(sweep, sizes=sizes)).data
    assert "With as many bytes, <b>up</b> does better: relative error" in page


def test_the_byte_table_adds_up(sweep: Sweep) -> None:
    page = sections.byte_table(sweep).data
    assert page.count("data-keep=") == sweep.sizes["keep"].nunique()
    assert "lowrank-joint" in page


def test_the_certificate_shows_every_center(sweep: Sweep) -> None:
    page = sections.certificate_table(sweep).data
    for row in sweep.centers.itertuples():
        assert f"{row.objective:#.5g}" in page
        assert gap_text(row.certified_gap) in page


def test_a_certificate_that_failed_says_so(sweep: Sweep) -> None:
    failed = replace(sweep, centers=sweep.centers.assign(lower_bound=0.0, certified_gap=float("inf")))
    page = sections.certificate_table(failed).data
    assert page.count("certificate failed") == len(sweep.centers)
    assert "inf%" not in page


def test_a_center_without_a_bound_says_so(sweep: Sweep) -> None:
    bare = replace(sweep, centers=sweep.centers.assign(lower_bound=float("nan"), certified_gap=float("nan")))
    assert "no bound" in sections.certificate_table(bare).data
    assert "Centers without a lower bound" in sections.not_measured(bare).data


def test_what_was_left_out_is_said() -> None:
    sweep = make_sweep(layers=4, tasks=False)
    facts = sweep.facts | {"settings": {"limit": 20}}
    some = replace(sweep, errors=sweep.errors.query("layer in (0, 2)"), facts=facts)
    page = sections.not_measured(some).data
    assert "Layers 1, 3 were left as they are." in page
    assert "first 20 rows" in page
    assert "Tasks: none was scored." in page
    assert "Layers" not in sections.not_measured(sweep).data


def test_every_way_to_run_is_in_the_table(sweep: Sweep) -> None:
    page = sections.speed_charts(sweep).data
    for row in sweep.speed.itertuples():
        assert f"{row.load_seconds:.2f} s" in page
        assert f"{row.prompt_tokens_per_second:,.0f}" in page


def test_seed_versions_and_date_are_stated(sweep: Sweep) -> None:
    page = sections.made_with(sweep).data
    for text in ("seed 0", "torch 2.13.0", "2026-11-22", "2 cores"):
        assert text in page
