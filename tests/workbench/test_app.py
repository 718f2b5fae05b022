from __future__ import annotations

import pytest

from resmoe_lab._core.errors import CheckpointError
from resmoe_lab.checkpoint import Checkpoint
from resmoe_lab.workbench import Workbench
from resmoe_lab.workbench.app import TABS

from .panels.conftest import PATIENCE


def test_a_panel_is_made_when_its_tab_is_opened(pico_checkpoint: Checkpoint) -> None:
    app = Workbench(pico_checkpoint)
    assert list(app.panels) == ["Experts"]
    for place, name in enumerate(TABS):
        app.tabs.selected_index = place
        assert app.panels[name].selection is app.selection
        assert app.tabs.children[place].children == (app.panels[name].widget,)
    app.panels["Barycenters"].steps.value = 10  # keep the training short
    with pytest.raises(CheckpointError, match="no tokenizer"):
        app.panels.pop("Tokens").wait(PATIENCE)
    for panel in app.panels.values():
        panel.wait(PATIENCE)


def test_another_checkpoint_is_opened_for_all_panels(pico_checkpoint: Checkpoint, tiny: Checkpoint) -> None:
    app = Workbench(pico_checkpoint)
    app.panels["Experts"].wait(PATIENCE)
    app.source.value = "/no/such/<b>place</b>"
    app.open.click()
    assert "not found" in app.message.value
    assert "<b>" not in app.message.value
    app.source.value = "mixtral-tiny"
    app.open.click()
    assert app.message.value == ""
    assert app.selection.checkpoint.name == "mixtral-tiny"
    assert app.panels["Experts"].wait(PATIENCE).view.aligned.shape == (8, 8)
