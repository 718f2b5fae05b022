"""The panel that learns barycenters: what it draws meanwhile, and what the slider does afterwards."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from typing import Any

import pandas as pd
import pytest

from resmoe_lab import workbench
from resmoe_lab._core.errors import UsageError
from resmoe_lab.checkpoint import Checkpoint

from .conftest import PATIENCE


@pytest.fixture
def panel(pico_checkpoint: Checkpoint) -> Iterator[Any]:
    result = workbench.barycenters(pico_checkpoint, steps=10).wait(PATIENCE)
    yield result
    result.close()


def test_the_slider_needs_no_further_training(panel: Any, pictures: Callable[[Any], dict[str, bytes]]) -> None:
    before, view = pictures(panel), panel.view
    assert all(png.startswith(b"\x89PNG") for png in before.values())
    panel.weight.value = 0.9
    after = pictures(panel)
    assert after["barycenter"] != before["barycenter"]
    assert after["training"] == before["training"]
    assert panel.view is view
    assert "0.9 : 0.05 : 0.05" in panel.message.value
    assert "0.9 : 0.05 : 0.05" in panel.pictures["barycenter"].alt


def test_it_draws_while_it_learns(pico_checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[str] = []
    from resmoe_lab.workbench.panels.picture import PicturePanel

    show = PicturePanel.show
    monkeypatch.setattr(PicturePanel, "show", lambda self, figure, alt: (shown.append(alt), show(self, figure, alt)))
    workbench.barycenters(pico_checkpoint, steps=11, seed=5).wait(PATIENCE)
    assert shown[0] == "The barycenter at equal weights after 1 of 11 steps"


def test_it_can_be_stopped(pico_checkpoint: Checkpoint) -> None:
    result = workbench.barycenters(pico_checkpoint, steps=10_000)
    result.cancel()
    assert result._settled.wait(PATIENCE)
    assert "Stopped: train nwb-f was stopped at step" in result.message.value


def test_neurons_follow_the_layer_and_other_examples_do_not(panel: Any) -> None:
    first = panel.view
    panel.selection.layer = 1
    assert panel.wait(PATIENCE).view is first
    panel.example.value = "neurons of experts"
    second = panel.wait(PATIENCE).view
    assert len(second.problem) == 3
    panel.selection.layer = 0
    assert panel.wait(PATIENCE).view is not second


def test_what_it_offers_can_be_saved_copied_and_frozen(panel: Any) -> None:
    names = [file["name"] for file in panel.save.files]
    assert {name.rsplit(".", 1)[1] for name in names} == {"csv", "svg", "png"}
    [table] = [name for name in names if "barycenters-barycenters" in name and name.endswith("csv")]
    rows = pd.read_csv(io.BytesIO(panel.save.content(table)))
    assert rows.columns.tolist() == ["weight", "x", "y"]
    assert rows["weight"].nunique() == 11
    scope: dict[str, Any] = {}
    exec(panel.save.code.replace("; workbench.", "; made = workbench."), scope)
    again = scope["made"].wait(PATIENCE)
    assert again.save.code == panel.save.code
    assert again.view is panel.view
    assert set(panel.freeze()) == {"barycenter", "training"}


def test_another_weight_or_example_is_refused(pico_checkpoint: Checkpoint) -> None:
    with pytest.raises(UsageError, match="weight is 2"):
        workbench.barycenters(pico_checkpoint, weight=2)
    with pytest.raises(Exception, match="selection"):
        workbench.barycenters(pico_checkpoint, example="a triangle")
