"""What has been computed in this kernel is not computed again, by whichever panel asks."""

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
#: Seconds between two looks at whether another panel is done with the same work.
_PAUSE = 0.2


@dataclass(frozen=True)
class Kept(Generic[T]):
    """A result, and how it came to be there.

    Parameters
    ----------
    value
        The result.
    made_at
        When it was computed.
    seconds
        How long that took.
    fresh
        Whether it was computed for whoever asks now, or lay there already.
    """

    value: T
    made_at: datetime
    seconds: float
    fresh: bool

    @property
    def mark(self) -> str:
        """The mark that a panel shows."""
        when = f"{self.made_at:%H:%M:%S}"
        return f"fresh · computed in {self.seconds:.1f} s" if self.fresh else f"cached · computed at {when}"


class Cache:
    """The newest results by what decides them.

    Parameters
    ----------
    most
        How many of them are kept; the one that was used longest ago goes first.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._kept: OrderedDict[Hashable, Kept[Any]] = OrderedDict()
        self._making: dict[Hashable, threading.Lock] = {}
        self._lock = threading.Lock()

    def get(self, key: Hashable, make: Callable[[Progress], T], progress: Progress) -> Kept[T]:
        """Return what `key` decides; two who ask at the same time wait for one computation."""
        with self._lock:
            making = self._making.setdefault(key, threading.Lock())
        while not making.acquire(timeout=_PAUSE):
            progress(Tick("waiting for another panel that computes the same", 0))
        try:
            found = self._look(key)
            if found is not None:
                return found
            began = time.perf_counter()
            value = make(progress)
            found = Kept(value, datetime.now(), time.perf_counter() - began, fresh=True)
            self._put(key, found)
            return found
        finally:
            making.release()

    def _look(self, key: Hashable) -> Kept[Any] | None:
        with self._lock:
            if key not in self._kept:
                return None
            self._kept.move_to_end(key)
            return replace(self._kept[key], fresh=False)

    def _put(self, key: Hashable, found: Kept[Any]) -> None:
        with self._lock:
            self._kept[key] = found
            while len(self._kept) > self._most:
                gone, _ = self._kept.popitem(last=False)
                self._making.pop(gone, None)


#: Layers with their experts, which may be gigabytes each; running models; what the panels show, which is small.
BENCHES, MODELS, VIEWS = Cache(2), Cache(1), Cache(64)


def stamp(checkpoint: Checkpoint) -> Hashable:
    """Tell what a checkpoint's files are now, so that results of other files are not taken for theirs.

    Raises
    ------
    CheckpointError
        If a file has vanished since the checkpoint was opened.
    """
    if checkpoint.hub_id is not None:
        return (checkpoint.hub_id, str(checkpoint.folder))
    files = {checkpoint.folder / "config.json", *(info.file for info in checkpoint.tensors.values())}
    return file_states(files)


def file_states(files: Iterable[Path]) -> Hashable:
    """Tell what some files are now.

    Raises
    ------
    CheckpointError
        If one is not there.
    """
    try:
        return tuple((str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in sorted(files))
    except OSError as error:
        raise CheckpointError(
            f"{error.filename} is gone, expected the files that were opened: put them back, or open another checkpoint"
        ) from error
