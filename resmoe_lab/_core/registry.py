"""Registries: one file in a folder adds one entry, and nothing else has to change."""

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
    """Named entries found in the public modules of one package.

    Parameters
    ----------
    kind
        What an entry is called in messages, such as ``"method"``.
    package
        Dotted name of the folder whose modules register entries when imported.
    """

    def __init__(self, kind: str, package: str) -> None:
        self.kind = kind
        self._package = package
        self._entries: dict[str, T] = {}
        self._loaded = self._loading = False
        self._lock = threading.RLock()

    def register(self, name: str) -> Callable[[T], T]:
        """Return a decorator that files its object under `name`."""

        def add(entry: T) -> T:
            if name in self._entries:
                raise ValueError(f"two {self.kind}s are called {name!r}")
            self._entries[name] = entry
            return entry

        return add

    def _load(self) -> None:
        """Import the modules of the folder, once; another thread that asks meanwhile waits for all of them."""
        if self._loaded:
            return
        with self._lock:
            # A module of the folder may look something up while it is imported, in this very thread.
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
        """All names, in alphabetical order."""
        self._load()
        return sorted(self._entries)

    def __getitem__(self, name: str) -> T:
        """Return the entry called `name`.

        Raises
        ------
        UsageError
            If there is none; similar names are suggested.
        """
        self._load()
        if name not in self._entries:
            near = get_close_matches(name, self._entries, n=3, cutoff=0.5)
            hint = f"did you mean {' or '.join(near)}?" if near else f"choose from {', '.join(self.names())}"
            raise UsageError(f"unknown {self.kind} {name!r}: {hint}")
        return self._entries[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.names())
