"""Panels of one test find nothing that panels of another have kept on disk, nor what comes with the package."""

from __future__ import annotations

from pathlib import Path

import pytest

from resmoe_lab.workbench import record_file, shipped


@pytest.fixture(autouse=True)
def own_records(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setattr(record_file, "cache_folder", lambda: folder)
    monkeypatch.setattr(shipped, "shipped_path", lambda name, panel: folder / "shipped" / name / f"{panel}.npz")
    return folder
