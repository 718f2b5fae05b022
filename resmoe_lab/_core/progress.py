"""One progress protocol: the package reports ticks, and tqdm, the command line and the notebook render them.

A renderer is any callable that takes a :class:`Tick`. It cancels the work by raising
:class:`~resmoe_lab._core.errors.Cancelled`, so a tick is also the only place where work can be cancelled.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Tick:
    """What a renderer is told.

    Parameters
    ----------
    task
        Name of the piece of work; ticks of one name belong to one bar.
    done, total
        Steps finished and steps in all (None: not known).
    facts
        Figures worth showing beside the bar, such as the objective.
    """

    task: str
    done: int
    total: int | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)


Progress = Callable[[Tick], None]


def silent(tick: Tick) -> None:
    """Render nothing (the default everywhere)."""


def tracked(items: Collection[T], task: str, progress: Progress) -> Iterator[T]:
    """Yield `items`, ticking once before the first and once after each."""
    total = len(items)
    progress(Tick(task, 0, total))
    for done, item in enumerate(items, start=1):
        yield item
        progress(Tick(task, done, total))


class TqdmProgress:
    """Render ticks as tqdm bars on standard error, one bar per task name."""

    def __init__(self) -> None:
        self._bars: dict[str, Any] = {}

    def __call__(self, tick: Tick) -> None:
        from tqdm.auto import tqdm

        bar = self._bars.get(tick.task)
        if bar is None or tick.done < bar.n:
            self._close(tick.task)
            bar = self._bars[tick.task] = tqdm(total=tick.total, desc=tick.task, leave=False, dynamic_ncols=True)
        bar.set_postfix({name: _short(value) for name, value in tick.facts.items()}, refresh=False)
        bar.update(tick.done - bar.n)
        if tick.total is not None and tick.done >= tick.total:
            self._close(tick.task)

    def _close(self, task: str) -> None:
        bar = self._bars.pop(task, None)
        if bar is not None:
            bar.close()

    def close(self) -> None:
        """Close every bar that is still open."""
        for task in list(self._bars):
            self._close(task)


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
