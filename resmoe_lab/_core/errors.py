"""Errors that say what was found, what was expected, and what to do."""

from __future__ import annotations


class ResmoeError(Exception):
    """Base of every error the package raises on purpose; its text is one line meant for the user.

    Attributes
    ----------
    exit_code
        What the command line exits with: 1 the work failed, 2 wrong usage, 130 interrupted.
    """

    exit_code = 1

    def _render_traceback_(self) -> list[str]:
        """What IPython shows in a notebook: the line, and no wall of calls that the user did not write."""
        return [f"{type(self).__name__}: {self}"]


class ResmoeWarning(UserWarning):
    """A result is right but says less than it seems to; its text is one line meant for the user."""


class UsageError(ResmoeError):
    """An argument is outside what is allowed."""

    exit_code = 2


class CheckpointError(ResmoeError):
    """A checkpoint is missing, damaged, unsafe, or of a kind that cannot be read."""


class WeightError(ResmoeError):
    """Weights hold something no result can be computed from (NaN, infinity, unequal shapes)."""


class DataError(ResmoeError):
    """A data set is missing or is not what it should be."""


class OutputError(ResmoeError):
    """A result cannot be written where it was asked for."""


class ResourceError(ResmoeError):
    """The work would need more memory or disk than there is; nothing has been started."""


class Cancelled(ResmoeError):
    """The user asked to stop; what was finished before stays valid."""

    exit_code = 130
