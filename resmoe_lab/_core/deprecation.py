"""Deprecated names, which work for one release with a warning that gives the new name."""

from __future__ import annotations

import functools
import importlib
import inspect
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, TypeVar

Function = TypeVar("Function", bound=Callable[..., Any])


def warn_renamed(old: str, new: str, *, stacklevel: int = 3) -> None:
    """Warn that `old` is deprecated, and give its new name."""
    message = f"{old} is deprecated and will be removed in the release after 0.2: use {new}"
    warnings.warn(message, DeprecationWarning, stacklevel=stacklevel)


def deprecated_names(module: str, renamed: Mapping[str, str]) -> Callable[[str], Any]:
    """Return a ``__getattr__`` for a module whose names have changed.

    Parameters
    ----------
    module
        The module's ``__name__``.
    renamed
        Old name -> new name in the same module, or ``"other.module:name"`` relative to the package.
    """

    def get(name: str) -> Any:
        if name not in renamed:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        home, _, new = renamed[name].rpartition(":")
        where = f"resmoe_lab.{home}" if home else module
        warn_renamed(f"{module}.{name}", f"{where}.{new}")
        return getattr(importlib.import_module(where), new)

    return get


def renamed_arguments(**renamed: str) -> Callable[[Function], Function]:
    """Return a decorator that makes a function accept keyword arguments under their old names, with a warning.

    Parameters
    ----------
    renamed
        Old name -> new name.

    Raises
    ------
    TypeError
        When the function is called with both names of one argument.

    Examples
    --------
    >>> @renamed_arguments(text="calibration")
    ... def score(*, calibration=None):
    ...     return calibration
    >>> score(calibration="wikitext2")
    'wikitext2'
    """

    def decorate(function: Function) -> Function:
        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            for old in [name for name in renamed if name in kwargs]:
                new = renamed[old]
                if new in kwargs:
                    raise TypeError(f"{function.__name__}() got both {old!r} and {new!r}, which are one argument")
                warn_renamed(f"the argument {old!r} of {function.__name__}()", repr(new))
                kwargs[new] = kwargs.pop(old)
            return function(*args, **kwargs)

        call.__signature__ = inspect.signature(function)  # type: ignore[attr-defined]
        return call  # type: ignore[return-value]

    return decorate


def deprecated_modules(moved: Mapping[str, str]) -> None:
    """Let modules be imported under their old names, with a warning.

    Parameters
    ----------
    moved
        Full old name -> full new name; an empty new name is a package that only holds other old names.
    """
    sys.meta_path.append(_MovedFinder(moved))


class _MovedFinder(MetaPathFinder, Loader):
    """Finds modules that have moved, after all other finders have not."""

    def __init__(self, moved: Mapping[str, str]) -> None:
        self._moved = moved

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname not in self._moved:
            return None
        return ModuleSpec(fullname, self, is_package=not self._moved[fullname])

    def create_module(self, spec: ModuleSpec) -> None:
        """Let Python make an empty module."""

    def exec_module(self, module: ModuleType) -> None:
        """Fill the module with the names of the one that has taken its place."""
        new = self._moved[module.__name__]
        if new:
            warn_renamed(module.__name__, new, stacklevel=6)
            module.__getattr__ = functools.partial(getattr, importlib.import_module(new))  # type: ignore[method-assign]
