"""What comes with the embedded models is written where it is looked for, and stays small."""

from __future__ import annotations

from pathlib import Path

import pytest

from resmoe_lab import zoo
from resmoe_lab._core.errors import OutputError
from resmoe_lab.checkpoint import Checkpoint
from resmoe_lab.workbench import ship
from resmoe_lab.workbench.app import TABS
from resmoe_lab.workbench.kept import ZOO_SWEEP, newest_sweep
from resmoe_lab.workbench.panels import TransportPanel
from resmoe_lab.workbench.ship import ship_panels, ship_sweep
from resmoe_lab.workbench.shipped import shipped_record


@pytest.fixture
def one_panel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ship, "TABS", {"Map": TABS["Map"], "Alignment": TABS["Alignment"], "Fusion": TABS["Fusion"]})


def test_records_are_found_by_what_the_panel_asks(one_panel: None, tiny: Checkpoint) -> None:
    [path] = ship_panels(["mixtral-tiny"])
    assert path.name == "transport.npz"
    panel = TransportPanel("mixtral-tiny")
    found = shipped_record(tiny, "transport", panel._key())
    assert found is not None
    assert found.value.objective == pytest.approx(panel.wait(240).view.objective, rel=1e-9)


def test_a_large_record_is_refused(one_panel: None, own_records: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ship, "MAX_BYTES", 100)
    with pytest.raises(OutputError, match=r"panel transport of mixtral-tiny takes [\d,]+ bytes, expected at most 100"):
        ship_panels(["mixtral-tiny"])
    assert not list(own_records.glob("shipped/*/*"))


def test_a_sweep_is_put_beside_its_model(tiny: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = zoo.folder("mixtral-tiny") / ZOO_SWEEP
    monkeypatch.setattr(zoo, "folder", lambda name: tmp_path / name)
    assert ship_sweep(source) == tmp_path / "mixtral-tiny" / ZOO_SWEEP
    kept = newest_sweep(tiny, tmp_path)
    assert kept is not None
    assert kept.sweep.pictures is not None, "made before sweeps recorded them"
    assert len(kept.sweep.predictions)
    assert len(kept.sweep.routing_shift)
    assert sum(path.stat().st_size for path in (tmp_path / "mixtral-tiny" / ZOO_SWEEP).iterdir()) < 1 << 19
