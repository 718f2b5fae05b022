"""Exceptions whose messages say what was found, what was expected, and what to do."""

from __future__ import annotations


class ResmoeError(Exception):
    """Base of all exceptions of the package; the message is one line for the user.

    Attributes
    ----------
    exit_code
        Exit code of the command line: 1 failure, 2 wrong usage, 130 interrupted.
    """

    exit_code = 1

    def _render_traceback_(self) -> list[str]:
        """Return what IPython shows in a notebook: the message without a traceback."""
        return [f"{type(self).__name__}: {self}"]


class ResmoeWarning(UserWarning):
    """A result is correct but has limitations; the message is one line for the user."""


class UsageError(ResmoeError):
    """An argument is invalid."""

    exit_code = 2


class CheckpointError(ResmoeError):
    """A checkpoint is missing, damaged, unsafe or unsupported."""


class WeightError(ResmoeError):
    """Weights cannot be used (NaN, infinity, unequal shapes)."""


class DataError(ResmoeError):
    """A data set is missing or invalid."""


class OutputError(ResmoeError):
    """A result cannot be written."""


class ResourceError(ResmoeError):
    """The work would need more memory or disk space than is available; it has not been started."""


class Cancelled(ResmoeError):
    """The work was cancelled; results that were finished before are valid."""

    exit_code = 130
