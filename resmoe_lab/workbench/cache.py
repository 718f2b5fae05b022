"""Caches of results that all panels of a kernel share."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Generic, TypeVar

from .._core.errors import CheckpointError
from .._core.progress import Progress, Tick
from ..checkpoint import Checkpoint

T = TypeVar("T")
#: Seconds between two checks whether another panel has finished the same computation.
_POLL_INTERVAL = 0.2


@dataclass(frozen=True)
class CachedResult(Generic[T]):
    """A result, with when and how it was computed.

    Parameters
    ----------
    value
        The result.
    computed_at
        When it was computed.
    seconds
        How long the computation took.
    fresh
        Whether it was computed for this call, or was in the cache.
    place
        What is said of one that was not: where it was.
    """

    value: T
    computed_at: datetime
    seconds: float
    fresh: bool
    place: str = "cached"

    @property
    def mark(self) -> str:
        """What a panel shows beside its title."""
        if self.fresh:
            return f"fresh · computed in {self.seconds:.1f} s"
        today = self.computed_at.date() == datetime.now().date()
        return f"{self.place} · computed at {self.computed_at:{'%H:%M:%S' if today else '%Y-%m-%d %H:%M'}}"


class Cache:
    """The most recently used results by key (least recently used first out).

    Parameters
    ----------
    max_size
        How many results are kept.
    """

    def __init__(self, max_size: int) -> None:
        self._max_size = max_size
        self._results: OrderedDict[Hashable, CachedResult[Any]] = OrderedDict()
        self._locks: dict[Hashable, threading.Lock] = {}
        self._lock = threading.Lock()

    def get(
        self, key: Hashable, compute: Callable[[Progress], T | CachedResult[T]], progress: Progress
    ) -> CachedResult[T]:
        """Return the result of a key, computed if it is missing; simultaneous callers share one computation."""
        with self._lock:
            lock = self._locks.setdefault(key, threading.Lock())
        while not lock.acquire(timeout=_POLL_INTERVAL):
            progress(Tick("waiting for another panel that computes the same result", 0))
        try:
            result = self._lookup(key)
            if result is not None:
                return result
            started = time.perf_counter()
            value = compute(progress)
            if isinstance(value, CachedResult):  # from a file, with the time at which it was computed
                result = value
            else:
                result = CachedResult(value, datetime.now(), time.perf_counter() - started, fresh=True)
            self._store(key, result)
            return result
        finally:
            lock.release()

    def forget(self, key: Hashable) -> None:
        """Drop the result of a key."""
        with self._lock:
            self._results.pop(key, None)

    def _lookup(self, key: Hashable) -> CachedResult[Any] | None:
        with self._lock:
            if key not in self._results:
                return None
            self._results.move_to_end(key)
            return replace(self._results[key], fresh=False)

    def _store(self, key: Hashable, result: CachedResult[Any]) -> None:
        with self._lock:
            self._results[key] = result
            while len(self._results) > self._max_size:
                oldest, _ = self._results.popitem(last=False)
                self._locks.pop(oldest, None)


#: Loaded layers, which may take gigabytes each; running models; records of the panels, which are small.
LAYERS, MODELS, VIEWS = Cache(2), Cache(1), Cache(64)


def checkpoint_fingerprint(checkpoint: Checkpoint) -> Hashable:
    """Return a key of a checkpoint's files: their paths, sizes and modification times.

    Raises
    ------
    CheckpointError
        If a file has been deleted since the checkpoint was opened.
    """
    if checkpoint.hub_id is not None:
        return (checkpoint.hub_id, str(checkpoint.folder))
    described = [checkpoint.config_file] if checkpoint.config_file is not None else []
    return file_fingerprint({*described, *checkpoint.files})


def file_fingerprint(files: Iterable[Path]) -> Hashable:
    """Return the paths, sizes and modification times of files.

    Raises
    ------
    CheckpointError
        If a file is missing.
    """
    try:
        return tuple((str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in sorted(files))
    except OSError as error:
        raise CheckpointError(
            f"{error.filename} is gone, expected the files that were opened: put them back, or open another checkpoint"
        ) from error
