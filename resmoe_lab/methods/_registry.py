"""The registry of methods."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .._core.registry import Registry
from ._base import Method


@dataclass(frozen=True)
class MethodEntry:
    """A method under one of its names: on experts as they are, or on their residuals from a center.

    Parameters
    ----------
    name
        What users type.
    title
        What charts and tables call it.
    reference
        Where it comes from.
    uses_center
        Whether it stores residuals from a center.
    method
        The class that does it.
    """

    name: str
    title: str
    reference: str
    uses_center: bool
    method: type[Method]

    def __call__(self, **options: Any) -> Method:
        """Make the method with its options, such as a seed."""
        return self.method(self, **options)

    @property
    def needs_statistics(self) -> bool:
        """Whether it cannot do without calibration text."""
        return self.method.needs_statistics


class MethodRegistry(Registry[MethodEntry]):
    """The methods by name; one class may have two, with a center and without."""

    def register(  # type: ignore[override]
        self, name: str, *, title: str, reference: str, uses_center: bool = False
    ) -> Callable[[type[Method]], type[Method]]:
        """Return a decorator that files a class under a name.

        Parameters
        ----------
        name, title, reference, uses_center
            As for :class:`MethodEntry`.
        """

        def add(method: type[Method]) -> type[Method]:
            super(MethodRegistry, self).register(name)(MethodEntry(name, title, reference, uses_center, method))
            return method

        return add


METHODS = MethodRegistry("method", "resmoe_lab.methods")
