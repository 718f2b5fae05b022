"""Panels of one test find nothing that panels of another have kept on disk."""

from __future__ import annotations

from pathlib import Path

import pytest

from resmoe_lab.workbench import record_file


@pytest.fixture(autouse=True)
def own_records(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setattr(record_file, "cache_folder", lambda: folder)
    return folder
