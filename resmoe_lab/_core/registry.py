"""Registries of plugins: every module of a folder may register entries."""

from __future__ import annotations

import importlib
import pkgutil
import threading
from collections.abc import Callable, Iterator
from difflib import get_close_matches
from typing import Generic, TypeVar

from .errors import UsageError

T = TypeVar("T")


class Registry(Generic[T]):
    """Named entries of the public modules of a package.

    Parameters
    ----------
    kind
        What an entry is called in messages, such as ``"method"``.
    package
        Dotted name of the package whose modules register entries when they are imported.
    """

    def __init__(self, kind: str, package: str) -> None:
        self.kind = kind
        self._package = package
        self._entries: dict[str, T] = {}
        self._loaded = self._loading = False
        self._lock = threading.RLock()

    def register(self, name: str) -> Callable[[T], T]:
        """Return a decorator that registers an object as `name`."""

        def add(entry: T) -> T:
            if name in self._entries:
                raise ValueError(f"two {self.kind}s are called {name!r}")
            self._entries[name] = entry
            return entry

        return add

    def _load(self) -> None:
        """Import the modules of the package, once; other threads wait until all are imported."""
        if self._loaded:
            return
        with self._lock:
            # A module may access the registry while it is imported, in the same thread.
            if self._loading:
                return
            self._loading = True
            try:
                folder = importlib.import_module(self._package)
                for module in pkgutil.iter_modules(folder.__path__):
                    if not module.name.startswith("_"):
                        importlib.import_module(f"{self._package}.{module.name}")
            finally:
                self._loading = False
            self._loaded = True

    def names(self) -> list[str]:
        """Return all names, in alphabetical order."""
        self._load()
        return sorted(self._entries)

    def __getitem__(self, name: str) -> T:
        """Return the entry called `name`.

        Raises
        ------
        UsageError
            If there is none; the message suggests similar names.
        """
        self._load()
        if name not in self._entries:
            matches = get_close_matches(name, self._entries, n=3, cutoff=0.5)
            hint = f"did you mean {' or '.join(matches)}?" if matches else f"choose from {', '.join(self.names())}"
            raise UsageError(f"unknown {self.kind} {name!r}: {hint}")
        return self._entries[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.names())
