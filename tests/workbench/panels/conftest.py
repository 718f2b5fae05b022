"""Panels without a browser: traits are set, pictures and words are read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

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
