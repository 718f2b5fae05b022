"""Base class of the panels that follow a selection."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Hashable
from datetime import datetime
from pathlib import Path
from typing import Any, ClassVar, cast

import ipywidgets

from ...checkpoint import Checkpoint
from ...methods import METHODS
from ..cache import VIEWS, CachedResult, checkpoint_fingerprint
from ..controls import linked_control
from ..record_file import load_record, record_path, save_record
from ..selection import Selection, select
from ..shipped import shipped_record
from ..views import View
from ._live import WRAP as WRAP
from ._live import LivePanel, V


class Panel(LivePanel[V]):
    """An interactive view of a selection.

    Parameters
    ----------
    source
        A selection that other panels may share, or a checkpoint, or anything that names one.
    traits
        Initial values of the selection: ``layer``, ``expert``, ``method``, ``center``, ``keep``.

    Raises
    ------
    CheckpointError, UsageError
        If there is no such checkpoint, or a value is not allowed.
    """

    #: Traits of the selection that the record is computed from, and those that only change the pictures.
    compute_traits: ClassVar[tuple[str, ...]] = ("layer", "center")
    draw_traits: ClassVar[tuple[str, ...]] = ()
    #: Whether its records are kept on disk, for the next kernel.
    keeps_records: ClassVar[bool] = False

    def __init__(self, source: Selection | Checkpoint | str | Path, **traits: Any) -> None:
        self.selection = select(source, **traits)
        #: What was asked to be computed whatever came with the model.
        self._anew: tuple[Checkpoint, Hashable] | None = None
        self.again = ipywidgets.Button(
            description="Compute again",
            tooltip="do not use what is kept on disk",
            layout=ipywidgets.Layout(width="9rem"),
        )
        self.again.on_click(lambda _: self.recompute())
        super().__init__(
            {name: linked_control(self.selection, name) for name in (*self.compute_traits, *self.draw_traits)}
        )
        self.selection.observe(self._recompute, names=["checkpoint", *self.compute_traits])
        self.selection.observe(self._redraw, names=list(self.draw_traits))
        self._begin()

    def _subject(self) -> Checkpoint:
        return self.selection.checkpoint

    def _fingerprint(self, subject: Checkpoint) -> Hashable:
        return checkpoint_fingerprint(subject)

    def _key(self) -> Hashable:
        """Return the cache key of the record, without the checkpoint."""
        return (*(getattr(self.selection, name) for name in self.compute_traits), repr(self._options()))

    def _record(self, subject: Checkpoint, key: Hashable, compute: Callable[[], V]) -> V | CachedResult[V]:
        """Return the user's own record, or the one that came with the model, or compute it."""
        if not self.keeps_records:
            return compute()
        path = record_path(subject, self.name, key)
        kept = load_record(path, View)
        if kept is not None:
            return CachedResult(kept, datetime.fromtimestamp(path.stat().st_mtime), 0.0, fresh=False)
        if (subject, key) != self._anew and (shipped := shipped_record(subject, self.name, key)) is not None:
            return cast(CachedResult[V], shipped)
        record = compute()
        save_record(record, path)
        return record

    def recompute(self) -> None:
        """Compute the record anew, whatever is kept of it."""
        subject, key = self._subject(), self._key()
        record_path(subject, self.name, key).unlink(missing_ok=True)
        VIEWS.forget((self.name, self._fingerprint(subject), key))
        self._anew = (subject, key)
        self._begin()

    def _record_controls(self) -> list[ipywidgets.Widget]:
        return [self.again] if self.keeps_records else []

    def _file_stem(self) -> str:
        layer = f"-layer{self.selection.layer}" if "layer" in self.compute_traits else ""
        return f"{Path(self.selection.checkpoint.name).name}{layer}"

    def code(self) -> str:
        """Return the Python code that shows what is on the screen."""
        traits = {name: getattr(self.selection, name) for name in (*self.compute_traits, *self.draw_traits)}
        arguments = "".join(f", {name}={value!r}" for name, value in {**traits, **self._options()}.items())
        return f"from resmoe_lab import workbench; workbench.{self.name}({self.selection.checkpoint.name!r}{arguments})"

    def close(self) -> None:
        """Cancel the computation and remove the panel from the screen."""
        self.selection.unobserve(self._recompute, names=["checkpoint", *self.compute_traits])
        self.selection.unobserve(self._redraw, names=list(self.draw_traits))
        super().close()


def setting_words(method: str, keep: float) -> list[str]:
    """Return the option of the command line that tells a method its kept fraction, or its bits where it has so many.

    Examples
    --------
    >>> setting_words("resmoe-up", 0.25), setting_words("rtn", 0.25), setting_words("rtn", 0.2)
    (['--keep', '0.25'], ['--bits', '4'], ['--keep', '0.2'])
    """
    bits = 16 * keep
    return ["--bits", f"{bits:g}"] if METHODS[method].method.takes_bits(bits) else ["--keep", f"{keep:g}"]


def command_line(*words: str) -> str:
    """Return words as one quoted command line."""
    return shlex.join(words)
