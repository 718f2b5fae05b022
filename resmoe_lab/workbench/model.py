"""The running model that panels score: one model at a time, used by one panel at a time."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from .._core.progress import Progress, Tick
from ..checkpoint import Checkpoint
from ..runtime import load_pair
from .cache import MODELS, checkpoint_fingerprint


@dataclass(frozen=True, eq=False)
class _RunningModel:
    model: Any
    tokenizer: Any
    lock: threading.Lock = field(default_factory=threading.Lock)


@contextmanager
def running_model(checkpoint: Checkpoint, progress: Progress) -> Iterator[tuple[Any, Any]]:
    """Yield a checkpoint's model and tokenizer, loaded once, to one caller at a time.

    Raises
    ------
    CheckpointError
        If it cannot be run, for instance because it has no tokenizer.
    """

    def load(progress: Progress) -> _RunningModel:
        progress(Tick("loading the model", 0))
        return _RunningModel(*load_pair(checkpoint))

    running = MODELS.get(checkpoint_fingerprint(checkpoint), load, progress).value
    while not running.lock.acquire(timeout=0.2):
        progress(Tick("waiting for another panel that runs the model", 0))
    try:
        yield running.model, running.tokenizer
    finally:
        running.lock.release()
