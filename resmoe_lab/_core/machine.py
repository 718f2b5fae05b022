"""What a result was computed with: versions, processor, peak memory."""

from __future__ import annotations

import os
import platform
import resource
import sys
from importlib.metadata import version

_PACKAGES = ("resmoe-lab", "torch", "transformers", "pot", "numpy", "scipy", "pandas", "altair")


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that decide a result."""
    return {"python": platform.python_version()} | {name: version(name) for name in _PACKAGES}


def machine() -> str:
    """The processor and how many of its cores this process may use."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{platform.machine()} {platform.system()}, {cores} cores"


def peak_rss_bytes() -> int:
    """Largest resident memory of this process so far, mapped files included."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
