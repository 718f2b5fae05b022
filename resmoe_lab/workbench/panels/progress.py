"""A progress bar with a stop button and the remaining time."""

from __future__ import annotations

import time
from collections.abc import Callable
from html import escape

import ipywidgets

from ..._core.progress import Tick

#: Least seconds between two updates of the bar: a browser cannot show a thousand ticks a second.
_MIN_INTERVAL = 0.1


class ProgressPanel:
    """Renders ticks; hidden while nothing runs.

    Parameters
    ----------
    stop
        Called when the stop button is pressed.
    main
        The task whose steps give the remaining time; by default, the task of the latest tick.
    """

    def __init__(self, stop: Callable[[], None], *, main: str | None = None) -> None:
        self._main = main
        self._began: dict[str, tuple[float, int]] = {}
        self._shown = 0.0
        self._left = self._where = ""
        self._bar = ipywidgets.IntProgress(layout=ipywidgets.Layout(width="14rem"))
        self._button = ipywidgets.Button(description="Stop", layout=ipywidgets.Layout(width="5rem"))
        self._button.on_click(lambda _: stop())
        self._text = ipywidgets.HTML()
        self.widget = ipywidgets.HBox(
            [self._bar, self._button, self._text], layout=ipywidgets.Layout(flex_flow="row wrap", display="none")
        )

    def __call__(self, tick: Tick) -> None:
        """Show a tick."""
        now = time.monotonic()
        started, first = self._began.setdefault(tick.task, (now, tick.done))
        main = tick.task == self._main or self._main is None
        message = tick.task.strip() + (f" {tick.done} of {tick.total}" if tick.total else "")
        if main and self._main:
            self._where = f"{message} · "
        if main and tick.total and tick.done > first:
            left = (now - started) / (tick.done - first) * (tick.total - tick.done)
            self._left = f" · about {duration(left)} left" if left >= 1 else ""
        if now - self._shown < _MIN_INTERVAL and tick.done != tick.total:
            return
        self._shown = now
        if main or not self._left:
            self._bar.max = tick.total or max(1, tick.done)
            self._bar.value = tick.done
        self.widget.layout.display = ""
        self._text.value = escape(f"{self._where}{'' if main and self._main else message}".strip(" ·") + self._left)

    def idle(self) -> None:
        """Hide the bar until the next tick."""
        self._began.clear()
        self._left, self._where, self._shown = "", "", 0.0
        self.widget.layout.display = "none"


def duration(seconds: float) -> str:
    """Return a duration in seconds, minutes or hours."""
    for size, unit in ((3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"
