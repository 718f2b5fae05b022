"""Panels without a browser: traits are set, pictures and words are read."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import pandas as pd
import pytest

from ...plots.conftest import texts as texts

PATIENCE = 240


@pytest.fixture
def pictures() -> Callable[[Any], dict[str, bytes]]:
    """Wait until a panel has drawn what is chosen, and return its pictures."""

    def look(panel: Any) -> dict[str, bytes]:
        panel.wait(PATIENCE)
        return {name: bytes(picture.png) for name, picture in panel.pictures.items()}

    return look


def check_files(panel: Any) -> None:
    """Everything that a panel offers to save can be made, and is what its name says."""
    names = [file["name"] for file in panel.save.files]
    assert {name.rsplit(".", 1)[1] for name in names} == {"csv", "svg", "png"}
    for name in names:
        content = panel.save.content(name)
        if name.endswith("csv"):
            assert len(pd.read_csv(io.BytesIO(content)))
        else:
            assert content.startswith(b"\x89PNG" if name.endswith("png") else b"<?xml")
