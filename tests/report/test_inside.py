"""Sections from what a sweep has recorded, and what they say where it has recorded nothing."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from resmoe_lab.experiments.sweep import Sweep, shift_by_variant
from resmoe_lab.report import inside

from ..plots.synthetic import METHODS, SCORED_KEEPS, make_sweep

_SECTIONS = [inside.map_section, inside.token_section, inside.routing_section]


@pytest.fixture(scope="module")
def sweep() -> Sweep:
    return make_sweep(layers=2, experts=3, width=12)


@pytest.mark.parametrize("section", _SECTIONS, ids=lambda section: section.__name__)
def test_sweeps_of_older_versions_say_what_is_missing(sweep: Sweep, section) -> None:
    old = replace(sweep, pictures=None, routing_shift=sweep.routing_shift[:0], predictions=sweep.predictions[:0])
    page = section(old).data
    assert "made by a version that did not record it: run resmoe-lab sweep again" in page
    assert "<figure" not in page


def test_a_reason_is_told(sweep: Sweep) -> None:
    assert sweep.pictures is not None
    pictures = sweep.pictures.model_copy(update={"forms": [], "missing": "family <x> cannot be traced"})
    told = replace(sweep, pictures=pictures, routing_shift=sweep.routing_shift[:0])
    for section in (inside.token_section, inside.routing_section):
        assert "Not recorded: family &lt;x&gt; cannot be traced." in section(told).data
    assert "drawMap" in inside.map_section(told).data


@pytest.mark.parametrize("section", _SECTIONS, ids=lambda section: section.__name__)
def test_no_text_becomes_markup(sweep: Sweep, section) -> None:
    assert sweep.pictures is not None
    evil = "</script><img src=x onerror=alert(1)>"
    first = sweep.pictures.forms[0]
    tokens = first.tokens.model_copy(update={"pieces": [evil] * len(first.tokens.pieces)})
    forms = [first.model_copy(update={"method": evil, "tokens": tokens})]
    changed = {"task": evil, "method": evil, "forms": forms}
    tables = {name: getattr(sweep, name).replace({"method": {"up": evil}}) for name in ("routing_shift", "predictions")}
    page = section(replace(sweep, pictures=sweep.pictures.model_copy(update=changed), **tables)).data
    assert "<img" not in page


def test_each_form_has_its_text_on_one_scale(sweep: Sweep) -> None:
    page = inside.token_section(sweep).data
    assert re.findall(r"<h3>(.*?)</h3>", page) == ["resmoe-up at 0.25", "up at 0.25"]
    scales = re.findall(r'"scale":([0-9.]+)', page)
    assert scales == ["0.9", "0.9"]
    assert page.count('"label":"up at 0.25"') == 1


def test_the_map_names_its_form(sweep: Sweep) -> None:
    page = inside.map_section(sweep).data
    assert '"name":"as stored"' in page
    assert '"name":"resmoe-up at 0.25, forecast"' in page


def test_the_table_of_shifts_has_every_variant(sweep: Sweep) -> None:
    page = inside.routing_section(sweep).data
    assert set(re.findall(r"<tbody data-keep='([^']*)'>", page)) == {f"{keep:g}" for keep in SCORED_KEEPS}
    assert page.count("<th scope='row'>") == 1 + len(METHODS) * len(SCORED_KEEPS)
    table = shift_by_variant(sweep).set_index(["method", "keep"])
    shift = sweep.routing_shift
    for (method, keep), row in table.iterrows():
        own = shift[(shift["method"] == method) & (shift["keep"] == keep)]
        assert row["rerouted"] == pytest.approx(sum(own["rerouted"]) / len(own))
        assert row["gate_kl"] == pytest.approx(sum(own["gate_kl"]) / len(own))
        assert f"<td>{row['rerouted']:.1%}</td>" in page
