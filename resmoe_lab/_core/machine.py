"""What a result was computed with: versions, processor, memory."""

from __future__ import annotations

import ctypes
import os
import platform
import resource
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import version
from pathlib import Path

_PACKAGES = ("resmoe-lab", "torch", "transformers", "pot", "numpy", "scipy", "pandas", "altair")
_STATUS = Path("/proc/self/status")
#: Seconds between two looks at the memory in use.
_EVERY = 0.003


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that decide a result."""
    return {"python": platform.python_version()} | {name: version(name) for name in _PACKAGES}


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def machine() -> str:
    """The processor and how many of its cores this process may use."""
    return f"{platform.machine()} {platform.system()}, {cores()} cores"


def peak_rss_bytes() -> int:
    """Largest resident memory of this process so far, mapped files included."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def anonymous_bytes() -> int:
    """Resident memory of this process without the pages of mapped files, which cost nothing to give back."""
    if not _STATUS.is_file():
        return peak_rss_bytes()
    return _kilobytes(_STATUS, "RssAnon") * 1024


def release_memory() -> None:
    """Give freed memory back to the system, where the C library knows how."""
    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)


def available_bytes() -> int:
    """Memory that may still be used on this machine, or in this container where it has a limit."""
    meminfo = Path("/proc/meminfo")
    free = _kilobytes(meminfo, "MemAvailable") * 1024 if meminfo.is_file() else _physical_bytes() // 2
    group = Path("/sys/fs/cgroup")
    try:
        limit, used = ((group / f"memory.{name}").read_text().strip() for name in ("max", "current"))
        return min(free, int(limit) - int(used))
    except (OSError, ValueError):  # no such file, or 'max' for no limit
        return free


def _physical_bytes() -> int:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _kilobytes(path: Path, name: str) -> int:
    line = next(line for line in path.read_text().splitlines() if line.startswith(f"{name}:"))
    return int(line.split()[1])


class Peak:
    """The most anonymous memory seen so far."""

    def __init__(self) -> None:
        self.nbytes = anonymous_bytes()

    def look(self) -> None:
        """Take the memory in use now into account."""
        self.nbytes = max(self.nbytes, anonymous_bytes())


@contextmanager
def peak_memory() -> Iterator[Peak]:
    """Watch the anonymous memory of this process from a thread while the block runs."""
    peak, done = Peak(), threading.Event()

    def watch() -> None:
        while not done.wait(_EVERY):
            peak.look()

    thread = threading.Thread(target=watch, name="peak memory", daemon=True)
    thread.start()
    try:
        yield peak
    finally:
        done.set()
        thread.join()
        peak.look()
