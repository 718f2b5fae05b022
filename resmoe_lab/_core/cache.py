"""Where things that can be made again are kept between runs."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path:
    """The package's folder in the user's cache; it may not be there yet."""
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "resmoe_lab"
