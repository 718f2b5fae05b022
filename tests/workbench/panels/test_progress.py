from __future__ import annotations

import pytest

from resmoe_lab._core.progress import Tick
from resmoe_lab.workbench.panels import ProgressPanel, progress


def test_progress_shows_names_as_text() -> None:
    panel = ProgressPanel(stop=lambda: None)
    panel(Tick("<b>task</b>", 2, 5))
    assert "<b>" not in panel._text.value
    assert (panel._bar.value, panel._bar.max) == (2, 5)
    assert panel.widget.layout.display == ""
    panel.idle()
    assert panel.widget.layout.display == "none"


def test_the_stop_button_stops() -> None:
    pressed = []
    panel = ProgressPanel(stop=lambda: pressed.append(True))
    panel._button.click()
    assert pressed == [True]


def test_the_time_left_is_that_of_the_main_task(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    panel = ProgressPanel(stop=lambda: None, main="scores")
    for done, at in ((0, 0.0), (1, 10.0), (2, 20.0)):
        now[0] = at
        panel(Tick("scores", done, 5))
        now[0] = at + 5
        panel(Tick("  inner", 1, 100))
    assert panel._text.value == "scores 2 of 5 · inner 1 of 100 · about 30 s left"
    assert (panel._bar.value, panel._bar.max) == (2, 5)


@pytest.mark.parametrize(("seconds", "words"), [(5, "5 s"), (90, "1.5 min"), (7200, "2.0 h")])
def test_times_are_in_the_unit_people_use(seconds: float, words: str) -> None:
    assert progress.duration(seconds) == words
