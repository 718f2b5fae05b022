from __future__ import annotations

import pytest

from resmoe_lab._core.errors import UsageError
from resmoe_lab._core.params import KEEP, Param
from resmoe_lab.checkpoint import Checkpoint
from resmoe_lab.workbench import Selection
from resmoe_lab.workbench.controls import (
    Checkboxes,
    center_names,
    dropdown,
    linked_control,
    method_names,
    set_options,
    slider,
)


@pytest.mark.parametrize("param", [KEEP, Param("share", 0.5, 0.0, 2.0, 0.5, "a share")])
def test_the_slider_takes_what_the_parameter_allows(param: Param) -> None:
    widget = slider(param)
    assert widget.value == param.default
    for step in range(round((widget.max - widget.min) / widget.step) + 1):
        param.validate(widget.min + step * widget.step)
    assert widget.max == param.high
    with pytest.raises(UsageError):
        param.validate(widget.min - widget.step)
    assert param.doc in widget.tooltip


def test_a_choice_begins_where_it_is_changes() -> None:
    assert dropdown("layer", [3, 5], value=5).value == 5
    assert dropdown("layer", range(2)).value == 0


def test_a_list_filled_anew_keeps_what_was_chosen() -> None:
    widget = dropdown("method", ["a", "b", "c"], value="b")
    set_options(widget, ["x", "b"])
    assert widget.value == "b"
    set_options(widget, ["y", "z"])
    assert widget.value == "y"


def test_checks_give_names_in_their_order() -> None:
    checks, changes = Checkboxes("methods", ["a", "b", "c"], ["c"]), []
    checks.observe(lambda change: changes.append(checks.value))
    checks.boxes["a"].value = True
    assert changes == [["a", "c"]]
    checks.value = ["b"]
    assert checks.value == ["b"]


def test_names_that_need_text_are_not_offered() -> None:
    assert "resmoe-up-aware" not in method_names()
    assert "resmoe-up" in method_names()
    assert center_names()[0] == "wasserstein"
    assert "wasserstein-usage" not in center_names()


@pytest.mark.parametrize("trait", ["layer", "expert", "method", "center", "keep"])
def test_a_widget_and_its_selection_follow_each_other(pico_checkpoint: Checkpoint, trait: str) -> None:
    selection = Selection(pico_checkpoint)
    first, second = linked_control(selection, trait), linked_control(selection, trait)
    value = {"layer": 1, "expert": 2, "method": "svd", "center": "average", "keep": 0.6}[trait]
    first.value = value
    assert getattr(selection, trait) == second.value == value


def test_a_method_that_is_not_in_the_list_joins_it(pico_checkpoint: Checkpoint) -> None:
    selection = Selection(pico_checkpoint)
    widget = linked_control(selection, "method")
    selection.method = "resmoe-up-aware"
    assert widget.value == "resmoe-up-aware"
