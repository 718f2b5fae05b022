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
        self._changed = threading.Condition()
        self._holders = self._refusing = 0
        self._take_back: Callable[[], None] = lambda: None

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep the setting as long as the block runs, or longer if another thread does; not where one keeps it off."""
        with self._changed:
            taken = not self._refusing
            if taken:
                if not self._holders:
                    self._take_back = self._make()
                self._holders += 1
        try:
            yield
        finally:
            if taken:
                with self._changed:
                    self._holders -= 1
                    if not self._holders:
                        self._take_back()
                        self._changed.notify_all()

    @contextmanager
    def kept_off(self) -> Iterator[None]:
        """Wait until nobody holds the setting, and keep it off as long as the block runs."""
        with self._changed:
            self._refusing += 1
        try:
            with self._changed:
                self._changed.wait_for(lambda: not self._holders)
            yield
        finally:
            with self._changed:
                self._refusing -= 1
