from __future__ import annotations

import pytest

from resmoe_lab._core.errors import CheckpointError
from resmoe_lab.checkpoint import Checkpoint
from resmoe_lab.workbench import Workbench
from resmoe_lab.workbench.app import PREFETCHED, TABS

from .panels.conftest import PATIENCE


def test_a_panel_is_made_when_its_tab_is_opened(pico_checkpoint: Checkpoint) -> None:
    app = Workbench(pico_checkpoint)
    assert list(app.panels) == ["Map"]
    for place, name in enumerate(TABS):
        app.tabs.selected_index = place
        if name != "Fusion":
            assert app.panels[name].selection is app.selection
        assert app.tabs.children[place].children == (app.panels[name].widget,)
    app.panels["Barycenters"].steps.value = 10  # keep the training short
    for name in ("Tokens", "Ablation"):
        with pytest.raises(CheckpointError, match="no tokenizer"):
            app.panels.pop(name).wait(PATIENCE)
    for panel in app.panels.values():
        panel.wait(PATIENCE)


def test_another_checkpoint_is_opened_for_all_panels(pico_checkpoint: Checkpoint, tiny: Checkpoint) -> None:
    app = Workbench(pico_checkpoint)
    app.tabs.selected_index = list(TABS).index("Experts")
    app.panels["Experts"].wait(PATIENCE)
    app.source.value = "/no/such/<b>place</b>"
    app.open.click()
    assert "not found" in app.message.value
    assert "<b>" not in app.message.value
    app.source.value = "mixtral-tiny"
    app.open.click()
    assert app.message.value == ""
    assert app.selection.checkpoint.name == "mixtral-tiny"
    assert "<b>mixtral-tiny</b>" in app.header.value
    assert app.panels["Experts"].wait(PATIENCE).view.aligned.shape == (8, 8)


def test_the_header_says_what_is_shown(tiny: Checkpoint) -> None:
    app = Workbench(tiny)
    for words in ("<b>mixtral-tiny</b>", "family mixtral", "4 layers of 8 experts", "resmoe-up at keep 0.25"):
        assert words in app.header.value
    app.selection.method, app.selection.keep = "up", 0.5
    assert "up at keep 0.5" in app.header.value
    assert "center" not in app.header.value


def test_tabs_of_an_embedded_model_are_computed_before_they_are_opened(tiny: Checkpoint) -> None:
    app = Workbench(tiny)
    app.prefetch()
    assert app._prefetching is not None
    app._prefetching.result(PATIENCE)
    assert set(PREFETCHED) <= set(app.panels)
    for name in PREFETCHED:
        assert app.panels[name].view is not None
        assert app.tabs.children[list(TABS).index(name)].children == (app.panels[name].widget,)


def test_other_models_wait_until_a_tab_is_opened(pico_checkpoint: Checkpoint) -> None:
    app = Workbench(pico_checkpoint)
    app.prefetch()
    assert app._prefetching is None
    assert list(app.panels) == ["Map"]


def test_a_hidden_panel_follows_when_its_tab_is_opened(tiny: Checkpoint) -> None:
    app = Workbench(tiny)
    alignment, experts = (list(TABS).index(name) for name in ("Alignment", "Experts"))
    app.tabs.selected_index = alignment
    panel = app.panels["Alignment"].wait(PATIENCE)
    app.tabs.selected_index = experts
    app.selection.layer = 3
    app.selection.expert = 4
    assert panel.wait(PATIENCE).view.layer == 0, "it is hidden"
    app.tabs.selected_index = alignment
    assert panel.wait(PATIENCE).view.layer == 3
    picture = bytes(panel.pictures["alignment"].png)
    app.tabs.selected_index = experts
    app.selection.expert = 5
    assert bytes(panel.wait(PATIENCE).pictures["alignment"].png)
    app.tabs.selected_index = alignment
    panel.wait(PATIENCE)
    assert bytes(panel.pictures["alignment"].png) != picture
