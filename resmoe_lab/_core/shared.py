"""Settings that all threads of a process share, kept by whoever needs them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class SharedSetting:
    """A setting that the first who needs it makes and the last who has needed it takes back.

    If each put back what it had found, two threads whose needs overlap would leave it as the first had made it.

    Parameters
    ----------
    make
        Makes the setting, and returns what takes it back.
    """

    def __init__(self, make: Callable[[], Callable[[], None]]) -> None:
        self._make = make
        self._lock = threading.Lock()
        self._holders = 0
        self._take_back: Callable[[], None] = lambda: None

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep the setting as long as the block runs, or longer if another thread does."""
        with self._lock:
            if not self._holders:
                self._take_back = self._make()
            self._holders += 1
        try:
            yield
        finally:
            with self._lock:
                self._holders -= 1
                if not self._holders:
                    self._take_back()
