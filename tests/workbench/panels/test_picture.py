"""A picture's widget: a skeleton where a picture will be."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from resmoe_lab import workbench
from resmoe_lab._core.progress import Progress
from resmoe_lab.checkpoint import Checkpoint
from resmoe_lab.workbench.panels.experts import ExpertsPanel

from .conftest import PATIENCE


def test_a_skeleton_stands_where_a_picture_will_be(
    pico_checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the first record is computed, until there is a picture or an error; never beside a picture."""
    begun, go_on = threading.Event(), threading.Event()
    computation = ExpertsPanel._computation

    def slow(panel: ExpertsPanel) -> Any:
        compute = computation(panel)

        def wait(*, progress: Progress) -> Any:
            begun.set()
            assert go_on.wait(PATIENCE)
            return compute(progress=progress)

        return wait

    monkeypatch.setattr(ExpertsPanel, "_computation", slow)
    panel = workbench.experts(pico_checkpoint, routing=False)
    assert begun.wait(PATIENCE)
    assert all(picture.pending and not picture.png for picture in panel.pictures.values())
    go_on.set()
    panel.wait(PATIENCE)
    assert all(picture.png and not picture.pending for picture in panel.pictures.values())

    def broken(*, progress: Progress) -> Any:
        raise ValueError("broken")

    monkeypatch.setattr(ExpertsPanel, "_computation", lambda panel: broken)
    panel.selection.layer = 1
    panel._settled.wait(PATIENCE)
    assert not any(picture.pending for picture in panel.pictures.values())
