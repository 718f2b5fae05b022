"""Deprecated names, which work for one release with a warning that gives the new name."""

from __future__ import annotations

import functools
import importlib
import inspect
import warnings
from collections.abc import Callable, Mapping
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
