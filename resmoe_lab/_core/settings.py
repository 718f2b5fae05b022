"""Base class of settings that are validated once and passed whole."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from .errors import UsageError


class Settings(BaseModel):
    """Settings that do not change once they are made; what pydantic refuses is one of our errors, in a line.

    Raises
    ------
    UsageError
        If a setting is unknown, or not allowed.

    Examples
    --------
    >>> class Limits(Settings):
    ...     rows: int = 10
    >>> Limits(rows="many")
    Traceback (most recent call last):
    ...
    resmoe_lab._core.errors.UsageError: rows: Input should be a valid integer, unable to parse string as an integer, \
found 'many'
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    def __init__(self, **settings: Any) -> None:
        try:
            super().__init__(**settings)
        except ValidationError as error:
            first = error.errors()[0]
            place, value = ".".join(str(part) for part in first["loc"]), first["input"]
            raise UsageError(f"{place or 'the settings'}: {first['msg']}, found {value!r}") from error

    @classmethod
    def of(cls, config: Self | None, settings: Mapping[str, Any]) -> Self:
        """Return a config as it is, or one that is made of single settings.

        Raises
        ------
        UsageError
            If both are given, or a setting is not allowed.
        """
        if config is not None and settings:
            raise UsageError(f"settings {', '.join(settings)} beside a config: put them into it")
        return cls(**settings) if config is None else config
