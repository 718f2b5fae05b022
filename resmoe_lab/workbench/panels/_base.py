"""Panels that follow a selection of a checkpoint's experts."""

from __future__ import annotations

import shlex
from collections.abc import Hashable
from pathlib import Path
from typing import Any, ClassVar

from ...checkpoint import Checkpoint
from ..cache import stamp
from ..controls import following
from ..selection import Selection, select
from ._live import WRAP as WRAP
from ._live import LivePanel, V


class Panel(LivePanel[V]):
    """A live view of a selection.

    Parameters
    ----------
    source
        A selection that other panels may share, or a checkpoint, or anything that names one.
    chosen
        First values of the selection: ``layer``, ``expert``, ``method``, ``center``, ``keep``.

    Raises
    ------
    CheckpointError, UsageError
        If there is no such checkpoint, or a value is not allowed.
    """

    #: Traits of the selection that decide what is computed, and those that only change the pictures.
    decided_by: ClassVar[tuple[str, ...]] = ("layer", "center")
    drawn_by: ClassVar[tuple[str, ...]] = ()

    def __init__(self, source: Selection | Checkpoint | str | Path, **chosen: Any) -> None:
        self.selection = select(source, **chosen)
        super().__init__({name: following(self.selection, name) for name in (*self.decided_by, *self.drawn_by)})
        self.selection.observe(self._recompute, names=["checkpoint", *self.decided_by])
        self.selection.observe(self._redraw, names=list(self.drawn_by))
        self._begin()

    def _subject(self) -> Checkpoint:
        return self.selection.checkpoint

    def _stamp(self, subject: Checkpoint) -> Hashable:
        return stamp(subject)

    def _key(self) -> Hashable:
        """What decides the record, beside the checkpoint."""
        return (*(getattr(self.selection, name) for name in self.decided_by), repr(self._options()))

    def _stem(self) -> str:
        layer = f"-layer{self.selection.layer}" if "layer" in self.decided_by else ""
        return f"{Path(self.selection.checkpoint.name).name}{layer}"

    def code(self) -> str:
        """The Python code that shows what is on the screen."""
        chosen = {name: getattr(self.selection, name) for name in (*self.decided_by, *self.drawn_by)}
        words = "".join(f", {name}={value!r}" for name, value in {**chosen, **self._options()}.items())
        return f"from resmoe_lab import workbench; workbench.{self.name}({self.selection.checkpoint.name!r}{words})"

    def close(self) -> None:
        """Stop, and take the panel off the screen."""
        self.selection.unobserve(self._recompute, names=["checkpoint", *self.decided_by])
        self.selection.unobserve(self._redraw, names=list(self.drawn_by))
        super().close()


def command_line(*words: str) -> str:
    """Return words as one line for a shell."""
    return shlex.join(words)
