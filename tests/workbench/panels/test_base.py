"""What all panels promise, tried on each of them."""

from __future__ import annotations

import shlex
import shutil
import threading
from collections.abc import Callable
from typing import Any

import pandas as pd
import pytest

from resmoe_lab import cli, workbench
from resmoe_lab._core.progress import silent
from resmoe_lab.checkpoint import Checkpoint
from resmoe_lab.workbench import Selection
from resmoe_lab.workbench.cache import Cache
from resmoe_lab.workbench.panels.map import MapPanel

from .conftest import PATIENCE, check_files

#: The panels that begin by themselves, and the control that changes their picture.
LIVE = {"experts": ("layer", 1), "transport": ("expert", 2), "errors": ("keep", 0.5), "Explorer": ("keep", 0.5)}


@pytest.fixture(params=sorted(LIVE))
def panel(request: pytest.FixtureRequest, pico_checkpoint: Checkpoint) -> Any:
    result = getattr(workbench, request.param)(pico_checkpoint).wait(PATIENCE)
    yield result
    result.close()


def test_its_control_changes_its_pictures(panel: Any, pictures: Callable[[Any], dict[str, bytes]]) -> None:
    before = pictures(panel)
    assert all(png.startswith(b"\x89PNG") for png in before.values())
    trait, value = LIVE[panel.name]
    setattr(panel.selection, trait, value)
    after = pictures(panel)
    assert any(after[name] != before[name] for name in before)
    assert all(picture.alt for picture in panel.pictures.values())


def test_the_mark_says_fresh_and_then_cached(panel: Any) -> None:
    assert "fresh" in panel.mark.value
    again = getattr(workbench, panel.name)(panel.selection.checkpoint).wait(PATIENCE)
    assert "cached" in again.mark.value
    assert again.view is panel.view


def test_everything_offered_can_be_saved(panel: Any) -> None:
    check_files(panel)


def test_the_code_shows_the_same_again(panel: Any) -> None:
    trait, value = LIVE[panel.name]
    setattr(panel.selection, trait, value)
    panel.wait(PATIENCE)
    scope: dict[str, Any] = {}
    exec(panel.save.code.replace("; workbench.", "; made = workbench."), scope)
    again = scope["made"].wait(PATIENCE)
    assert again.save.code == panel.save.code
    assert [bytes(p.png) for p in again.pictures.values()] == [bytes(p.png) for p in panel.pictures.values()]


def test_the_command_is_one_that_the_command_line_knows(panel: Any) -> None:
    for line in filter(None, panel.save.command.split(" && ")):
        program, *words = shlex.split(line)
        assert program == "resmoe-lab"
        cli.app.parse_args(words, exit_on_error=False, print_error=False)


def test_frozen_charts_come_from_the_record_on_the_screen(panel: Any) -> None:
    frozen = panel.freeze()
    charts = panel.view.charts()
    assert set(frozen) == set(charts)
    for name, chart in frozen.items():
        assert chart.to_json() == charts[name].to_json()


def test_a_checkpoint_that_vanishes_is_one_line_and_the_pictures_stay(panel: Any) -> None:
    before = {name: bytes(picture.png) for name, picture in panel.pictures.items()}
    shutil.rmtree(panel.selection.checkpoint.folder)
    panel._begin()
    panel._settled.wait(PATIENCE)
    assert "is gone, expected the files that were opened" in panel.message.value
    assert "resmoe-error" in panel.message.value
    assert "Traceback" not in panel.message.value
    assert {name: bytes(picture.png) for name, picture in panel.pictures.items()} == before


def test_it_shows_itself_as_a_widget(panel: Any) -> None:
    bundle = panel._repr_mimebundle_()
    assert "application/vnd.jupyter.widget-view+json" in (bundle[0] if isinstance(bundle, tuple) else bundle)


def test_markup_in_a_name_stays_text(panel: Any, tmp_path: Any) -> None:
    evil = tmp_path / "<script>alert(1)</script>"
    shutil.copytree(panel.selection.checkpoint.folder, evil)
    result = getattr(workbench, panel.name)(str(evil)).wait(PATIENCE)
    shutil.rmtree(evil)
    result._begin()
    result._settled.wait(PATIENCE)
    shown = [result.message.value, result.mark.value, *(widget.value for widget in _html(result.widget))]
    assert not any("<script" in text for text in shown)
    assert any("&lt;script" in text for text in shown)


def _html(widget: Any) -> list[Any]:
    widgets = [widget] if type(widget).__name__ == "HTML" else []
    return widgets + [inner for child in getattr(widget, "children", ()) for inner in _html(child)]


def test_panels_of_one_selection_move_together(
    pico_checkpoint: Checkpoint, pictures: Callable[[Any], dict[str, bytes]]
) -> None:
    selection = Selection(pico_checkpoint)
    first, second = workbench.experts(selection, routing=False), workbench.transport(selection)
    before = pictures(second)
    first.controls["layer"].value = 1
    assert second.controls["layer"].value == 1
    assert pictures(second) != before
    assert pictures(second)["alignment"]
    assert "layer1" in second.save.files[0]["name"]


@pytest.mark.parametrize(
    ("name", "trait", "value"),
    [("experts", "layer", 1), ("transport", "layer", 1), ("Explorer", "layer", 1), ("model_map", "method", "up")],
)
def test_a_computation_is_of_the_values_that_it_was_made_for(
    name: str, trait: str, value: Any, pico_checkpoint: Checkpoint
) -> None:
    """Controls move while it waits for its thread, and its record is kept for what they were."""
    panel = getattr(workbench, name)(pico_checkpoint).wait(PATIENCE)
    before = panel.view.tables()
    compute = panel._computation()
    setattr(panel.selection, trait, value)
    after = compute(progress=silent).tables()
    changed = panel.wait(PATIENCE).view.tables()
    assert list(after) == list(before)
    for table, expected in before.items():
        pd.testing.assert_frame_equal(after[table], expected)
    assert any(not changed[table].equals(before[table]) for table in before)


def test_a_control_that_moves_before_the_thread_begins_leaves_no_record_under_another_key(
    pico_checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    moved = threading.Event()
    fingerprint = MapPanel._fingerprint

    def late(panel: MapPanel, subject: Checkpoint) -> Any:
        assert moved.wait(PATIENCE)
        return fingerprint(panel, subject)

    monkeypatch.setattr(MapPanel, "_fingerprint", late)
    panel = workbench.model_map(pico_checkpoint, method="resmoe-up", keep=0.25)
    panel.selection.method = "up"
    moved.set()
    panel.wait(PATIENCE)
    first = workbench.model_map(pico_checkpoint, method="resmoe-up", keep=0.25).wait(PATIENCE)
    assert list(first.view.forms)[1] == "resmoe-up at 0.25, forecast"


def test_what_fails_unexpectedly_is_one_line_too(pico_checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    result = workbench.transport(pico_checkpoint).wait(PATIENCE)

    def broken(*, progress: Any) -> Any:
        raise ValueError("first line\nsecond <b>line</b>")

    monkeypatch.setattr(result, "_computation", lambda: broken)
    result.selection.layer = 1
    result._settled.wait(PATIENCE)
    assert "ValueError: first line second &lt;b&gt;line" in result.message.value


def test_stopping_says_so_and_keeps_the_kernel_alive(pico_checkpoint: Checkpoint) -> None:
    result = workbench.experts(pico_checkpoint, routing=False).wait(PATIENCE)
    result.selection.layer = 1
    result.cancel()
    result._settled.wait(PATIENCE)
    result.selection.layer = 0
    assert result.wait(PATIENCE).view.diagnosis.layer == 0


def test_another_kernel_shows_what_was_kept_until_it_is_asked_to_compute(
    tiny: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = workbench.transport(tiny, layer=1).wait(PATIENCE)
    assert first.mark.value.count("fresh") == 1
    empty = Cache(8)
    for module in ("_base", "_live"):
        monkeypatch.setattr(f"resmoe_lab.workbench.panels.{module}.VIEWS", empty)
    again = workbench.transport(tiny, layer=1).wait(PATIENCE)
    assert "cached" in again.mark.value
    assert (again.view.permutations == first.view.permutations).all()
    assert again.message.value == first.message.value
    again.again.click()
    again.wait(PATIENCE)
    assert "fresh" in again.mark.value
