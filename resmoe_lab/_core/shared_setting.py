"""Settings that all threads of a process share, enabled by reference counting."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class SharedSetting:
    """A global setting that the first user enables and the last user restores.

    If each user restored the value that it had found, two threads with overlapping use would leave the setting enabled.

    Parameters
    ----------
    enable
        Enables the setting, and returns a function that restores it.
    """

    def __init__(self, enable: Callable[[], Callable[[], None]]) -> None:
        self._enable = enable
        self._changed = threading.Condition()
        self._users = self._blockers = 0
        self._restore: Callable[[], None] = lambda: None

    @contextmanager
    def enabled(self) -> Iterator[None]:
        """Enable the setting while the block runs, unless another thread has disabled it."""
        with self._changed:
            counted = not self._blockers
            if counted:
                if not self._users:
                    self._restore = self._enable()
                self._users += 1
        try:
            yield
        finally:
            if counted:
                with self._changed:
                    self._users -= 1
                    if not self._users:
                        self._restore()
                        self._changed.notify_all()

    @contextmanager
    def disabled(self) -> Iterator[None]:
        """Wait until no thread uses the setting, and disable it while the block runs."""
        with self._changed:
            self._blockers += 1
        try:
            with self._changed:
                self._changed.wait_for(lambda: not self._users)
            yield
        finally:
            with self._changed:
                self._blockers -= 1
