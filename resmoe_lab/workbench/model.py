"""The running model that panels score; one at a time, and one panel at a time."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from .._core.progress import Progress, Tick
from ..checkpoint import Checkpoint
from ..runtime import load_pair
from .cache import MODELS, stamp


@dataclass(frozen=True, eq=False)
class _Running:
    model: Any
    tokenizer: Any
    used: threading.Lock = field(default_factory=threading.Lock)


@contextmanager
def running_model(checkpoint: Checkpoint, progress: Progress) -> Iterator[tuple[Any, Any]]:
    """Give a checkpoint's model and tokenizer, loaded once, to one user at a time.

    Raises
    ------
    CheckpointError
        If it cannot be run, for instance for want of a tokenizer.
    """

    def make(progress: Progress) -> _Running:
        progress(Tick("loading the model", 0))
        return _Running(*load_pair(checkpoint))

    running = MODELS.get(stamp(checkpoint), make, progress).value
    while not running.used.acquire(timeout=0.2):
        progress(Tick("waiting for another panel that runs the model", 0))
    try:
        yield running.model, running.tokenizer
    finally:
        running.used.release()
