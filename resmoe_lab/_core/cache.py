"""The cache folder of the package."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path:
    """Return the package's folder in the user's cache, which need not exist yet."""
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "resmoe_lab"
