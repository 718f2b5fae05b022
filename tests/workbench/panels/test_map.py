"""The map panel: drawn from headers, it chooses layers for all panels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from resmoe_lab import workbench
from resmoe_lab.analysis.approximation import error_curves
from resmoe_lab.centers import find_center
from resmoe_lab.checkpoint import Checkpoint, open_checkpoint
from resmoe_lab.compress import CompressionConfig, compress_checkpoint
from resmoe_lab.experts import load_stack

from .conftest import PATIENCE, check_files


@pytest.fixture
def panel(tiny: Checkpoint) -> Any:
    return workbench.model_map(tiny, method="resmoe-up", keep=0.25).wait(PATIENCE)


def test_both_forms_are_drawn_from_one_table(panel: Any, tiny: Checkpoint) -> None:
    data = panel.map.data
    assert [form["name"] for form in data["forms"]] == ["as stored", "resmoe-up at 0.25, forecast"]
    assert data["forms"][0]["bytes"] == tiny.total_bytes
    for form in data["forms"]:
        assert sum(row["bytes"] for row in form["rows"]) == form["bytes"]
        assert [row["layer"] for row in form["rows"]] == [None, 0, 1, 2, 3, None]
    assert "85% of it experts" in panel.message.value
    check_files(panel)
    assert set(panel.freeze()) == {"map"}


def test_a_click_chooses_the_layer_of_all_panels(panel: Any) -> None:
    panel.map.layer = 2
    assert panel.selection.layer == 2
    panel.selection.layer = 1
    assert panel.map.layer == 1
    panel.map.layer = 77  # no browser sends that
    assert panel.selection.layer == 1


def test_errors_are_those_of_the_library(panel: Any, tiny: Checkpoint) -> None:
    panel.errors.value = True
    panel.wait(PATIENCE)
    stack = load_stack(tiny, layer=3)
    expected = error_curves(stack, methods=["resmoe-up"], keeps=[0.25], center=find_center(stack))
    assert panel.view.errors[3] == pytest.approx(float(expected["relative_error"].iloc[0]), rel=1e-6)
    assert panel.map.data["errors"]["3"] == panel.view.errors[3]
    assert "the largest relative error" in panel.message.value


def test_a_packed_checkpoint_is_shown_as_it_is(tiny: Checkpoint, tmp_path: Path) -> None:
    compress_checkpoint(tiny, tmp_path / "packed", CompressionConfig(method="resmoe-up", keep=0.25))
    from resmoe_lab.workbench.views import view_map

    view = view_map(open_checkpoint(tmp_path / "packed"), method="up", keep=0.5)
    assert list(view.forms) == ["as stored"]
    assert "center" in set(view.forms["as stored"]["part"])
