"""Versions, processor and memory of this process and machine."""

from __future__ import annotations

import ctypes
import os
import platform
import resource
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib.metadata import version
from pathlib import Path

_PACKAGES = ("resmoe-lab", "torch", "transformers", "pot", "numpy", "scipy", "pandas", "altair")
_STATUS = Path("/proc/self/status")
#: Seconds between two measurements of the memory in use.
_SAMPLING_SECONDS = 0.003
#: glibc's names of what is kept at the end of a heap, and of the size from which on a block is mapped by itself.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
#: Nothing larger than this is kept; and what glibc's own thresholds come to once blocks of such sizes were freed.
_UNPOOLED = {_MMAP_THRESHOLD: 1 << 16, _TRIM_THRESHOLD: 1 << 17}
_POOLED = {_MMAP_THRESHOLD: 1 << 25, _TRIM_THRESHOLD: 1 << 26}


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages on which results depend."""
    return {"python": platform.python_version()} | {name: version(name) for name in _PACKAGES}


def cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def machine() -> str:
    """Describe the processor and the number of its cores that this process may use."""
    return f"{platform.machine()} {platform.system()}, {cores()} cores"


def peak_rss_bytes() -> int:
    """Return the peak resident memory of this process, including mapped files."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def anonymous_bytes() -> int:
    """Return the resident memory of this process without mapped files, whose pages can be evicted at no cost."""
    if not _STATUS.is_file():
        return peak_rss_bytes()
    return _kilobytes(_STATUS, "RssAnon") * 1024


def release_memory() -> None:
    """Return freed memory to the system, if the C library supports it."""
    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)


@contextmanager
def unpooled_memory() -> Iterator[None]:
    """Return every larger block to the system when it is freed, if the C library supports it.

    Else it keeps some for later, up to a fixed size for each thread: much beside a small computation, nothing beside a
    large one, so that memory in use does not grow in proportion.
    """
    _set_allocator(_UNPOOLED)
    try:
        yield
    finally:
        _set_allocator(_POOLED)


def _set_allocator(thresholds: Mapping[int, int]) -> None:
    with suppress(AttributeError, OSError):
        library = ctypes.CDLL(None)
        for name, nbytes in thresholds.items():
            library.mallopt(name, nbytes)


def available_bytes() -> int:
    """Return the memory that is available on this machine, or within the limit of this container."""
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
    """The peak of anonymous memory so far."""

    def __init__(self) -> None:
        self.nbytes = anonymous_bytes()

    def update(self) -> None:
        """Measure the memory in use."""
        self.nbytes = max(self.nbytes, anonymous_bytes())


@contextmanager
def peak_memory() -> Iterator[Peak]:
    """Measure the peak of this process's anonymous memory from a thread while the block runs."""
    peak, done = Peak(), threading.Event()

    def sample() -> None:
        while not done.wait(_SAMPLING_SECONDS):
            peak.update()

    thread = threading.Thread(target=sample, name="peak memory", daemon=True)
    thread.start()
    try:
        yield peak
    finally:
        done.set()
        thread.join()
        peak.update()
