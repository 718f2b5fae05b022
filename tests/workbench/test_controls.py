from __future__ import annotations

import pytest

from resmoe_lab._core.errors import UsageError
from resmoe_lab._core.params import KEEP, Param
from resmoe_lab.workbench.controls import choice, slider


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


def test_a_choice_begins_where_it_is_told() -> None:
    assert choice("layer", [3, 5], value=5).value == 5
    assert choice("layer", range(2)).value == 0
