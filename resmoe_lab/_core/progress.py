"""The progress protocol: the package reports ticks, which tqdm, the command line and notebooks render.

A renderer is any callable that takes a :class:`Tick`. It cancels the work by raising
:class:`~resmoe_lab._core.errors.Cancelled`; work can be cancelled nowhere else.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Tick:
    """A progress report.

    Parameters
    ----------
    task
        Name of the task; ticks of one name belong to one bar.
    done, total
        Finished steps and total steps (None: unknown).
    facts
        Values to show beside the bar, such as the objective.
    """

    task: str
    done: int
    total: int | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)


Progress = Callable[[Tick], None]


def silent(tick: Tick) -> None:
    """Render nothing (the default)."""


def tracked(items: Collection[T], task: str, progress: Progress) -> Iterator[T]:
    """Yield `items`, and report a tick before the first and after each."""
    total = len(items)
    progress(Tick(task, 0, total))
    for done, item in enumerate(items, start=1):
        yield item
        progress(Tick(task, done, total))


class TqdmProgress:
    """Renders ticks as tqdm bars on standard error, one for each task."""

    def __init__(self) -> None:
        self._bars: dict[str, Any] = {}

    def __call__(self, tick: Tick) -> None:
        from tqdm.auto import tqdm

        bar = self._bars.get(tick.task)
        if bar is None or tick.done < bar.n:
            self._close(tick.task)
            bar = self._bars[tick.task] = tqdm(total=tick.total, desc=tick.task, leave=False, dynamic_ncols=True)
        bar.set_postfix({name: _format(value) for name, value in tick.facts.items()}, refresh=False)
        bar.update(tick.done - bar.n)
        if tick.total is not None and tick.done >= tick.total:
            self._close(tick.task)

    def _close(self, task: str) -> None:
        bar = self._bars.pop(task, None)
        if bar is not None:
            bar.close()

    def close(self) -> None:
        """Close all open bars."""
        for task in list(self._bars):
            self._close(task)


def _format(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
