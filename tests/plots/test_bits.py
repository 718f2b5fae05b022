"""Charts of methods that go by bits a weight: what they show is what is stored."""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd
import pytest

import resmoe_lab as rl
from resmoe_lab import plots
from resmoe_lab.checkpoint import Checkpoint
from resmoe_lab.methods import METHODS
from resmoe_lab.plots.live import ErrorFigure, allocation_figure
from resmoe_lab.plots.series import add_series, goes_by_bits, is_plain_quantizer, worst_drawn

from .synthetic import BITS, make_bits_sweep

Texts = Callable[..., list[str]]


def test_errors_at_equal_bytes_show_what_fits(pico_checkpoint: Checkpoint, texts: Texts) -> None:
    stack = rl.load_stack(pico_checkpoint, layer=0)
    center = rl.find_center(stack)
    table = rl.errors_at_bits(stack, methods=["rtn", "resmoe-up", "up"], bits=[1.0, 4, 8], center=center)
    assert "rtn" not in set(table[table["bits"] == 1]["method"]), "two bits with scales and zeros take more than one"
    for row in table.itertuples():
        used = center if row.method == "resmoe-up" else None
        layer = rl.compress_layer(stack, method=row.method, keep=row.keep, center=used)
        ledger = rl.storage_ledger(layer)
        assert 16 * ledger.true_bytes <= row.bits * ledger.original_bytes
        assert row.error == pytest.approx(layer.approximation_error(stack), rel=1e-5)
    chart = plots.errors_by_bits(table, layer=0)
    for bits in (4, 8):
        labels = texts(chart, bits=bits)
        assert f"at {bits} bits" in labels
        for row in table[table["bits"] == bits].itertuples():
            shown = [float(label) for label in labels if _is_number(label)]
            assert min(abs(number - row.relative_error) for number in shown) <= 0.06 * row.relative_error + 1e-9


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def test_errors_at_equal_bytes_need_the_center_that_they_use(pico_checkpoint: Checkpoint) -> None:
    stack = rl.load_stack(pico_checkpoint, layer=0)
    with pytest.raises(rl.ResmoeError, match="needs a center"):
        rl.errors_at_bits(stack, methods=["resmoe-up"], bits=[4])
    with pytest.raises(rl.ResmoeError, match="bits is 17"):
        rl.errors_at_bits(stack, methods=["up"], bits=[17])


def test_the_slider_is_of_bits_where_all_methods_go_by_them(texts: Texts) -> None:
    sweep = make_bits_sweep(by_keep=False)
    assert "at 4 bits" in texts(plots.error_curves(sweep.errors), bits=4)
    assert "at 3 bits" in texts(plots.score_curves(sweep.scores, "wikitext2"), bits=3)
    labels = texts(plots.size_bars(sweep.sizes), bits=2)
    assert "15.6%  really stored" in labels
    assert "bits" in {param["name"] for param in plots.errors_by_layer(sweep.errors).to_dict()["params"]}
    points = plots.error_by_bytes(sweep.errors, sweep.sizes).to_dict()
    assert "params" not in points, "there is no kept fraction to highlight"


def test_charts_against_bytes_say_what_a_method_was_told(texts: Texts) -> None:
    sweep = make_bits_sweep()
    spec = str(plots.error_by_bytes(sweep.errors, sweep.sizes).to_dict())
    assert "'setting': '1.5 bits'" in spec
    assert "'setting': 'keep 0.25'" in spec
    assert "symlog" in spec, "coded errors are a hundred times smaller"
    slider = next(p for p in plots.error_by_bytes(sweep.errors, sweep.sizes).to_dict()["params"] if p["name"] == "keep")
    assert slider["bind"]["step"] == pytest.approx(0.05), "bits add no odd kept fractions to the slider"


def test_broken_models_leave_room_for_the_others() -> None:
    values = pd.Series([2.1, 2.2, 2.6, 50.0, 1e5])
    assert worst_drawn(values, 2.0) == 2.6
    assert worst_drawn(values, None) == 1e5
    assert worst_drawn(values[2:], 1.0) == 1e5
    rows = pd.DataFrame({"series": "up", "keep": 0.5, "true_share": [0.9, 0.8, 0.7, 0.5, 0.1], "value": values})
    chart = plots.front_lines(rows, rows[:2], task="t", metric="perplexity", original=2.0)
    assert "2 points are worse than what is drawn" in chart.title.subtitle


def test_small_errors_are_seen_in_the_panel() -> None:
    errors = add_series(make_bits_sweep().errors).assign(at=lambda t: t["keep"], value=lambda t: t["relative_error"])
    table = errors[errors["series"].isin(BITS)][["layer", "series", "at", "value"]]
    figure = ErrorFigure(table, across="kept fraction").figure(0.25)
    said = [text.get_text() for axes in figure.axes for text in axes.texts]
    assert {f"{0.9 * 4.0**-4:.2g}", f"{0.3 * 4.0**-4:.2g}"} <= set(said)
    assert figure.axes[0].get_yscale() == "symlog"
    plain = ErrorFigure(table.assign(series="up").drop_duplicates(["layer", "at"])).figure(0.25)
    assert plain.axes[0].get_yscale() == "linear"


def test_an_allocation_of_bits_says_bits() -> None:
    columns = ["layer", "keep", "relative_error", "uniform_keep", "uniform_error"]
    table = pd.DataFrame([(0, 0.25, 0.01, 0.1875, 0.02), (1, 0.125, 0.04, 0.1875, 0.03)], columns=columns)
    axes = allocation_figure(table, method="rtn", share=0.2).axes[0]
    assert axes.get_ylabel() == "bits a weight"
    assert sorted(bar.get_height() for bar in axes.patches) == [2, 3, 3, 4]


def test_plain_quantizers_are_those_that_only_round() -> None:
    assert {name for name in METHODS if is_plain_quantizer(name)} == {"rtn", "hqq", "gptq", "mxfp4", "nvfp4"}
    assert goes_by_bits("resmoe-coded · average")
    assert not goes_by_bits("original")
