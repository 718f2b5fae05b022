"""A progress bar with a stop button and the time left, for any work that ticks."""

from __future__ import annotations

import time
from collections.abc import Callable
from html import escape

import ipywidgets

from ..._core.progress import Tick

#: Seconds between two pictures of the bar: a browser need not be told a thousand ticks a second.
_EVERY = 0.1


class ProgressPanel:
    """Renders ticks; hidden while nothing runs.

    Parameters
    ----------
    stop
        Called when the stop button is pressed.
    main
        The task whose steps tell how much time is left; whichever ticks, by default.
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
        began, first = self._began.setdefault(tick.task, (now, tick.done))
        main = tick.task == self._main or self._main is None
        said = tick.task.strip() + (f" {tick.done} of {tick.total}" if tick.total else "")
        if main and self._main:
            self._where = f"{said} · "
        if main and tick.total and tick.done > first:
            left = (now - began) / (tick.done - first) * (tick.total - tick.done)
            self._left = f" · about {duration(left)} left" if left >= 1 else ""
        if now - self._shown < _EVERY and tick.done != tick.total:
            return
        self._shown = now
        if main or not self._left:
            self._bar.max = tick.total or max(1, tick.done)
            self._bar.value = tick.done
        self.widget.layout.display = ""
        self._text.value = escape(f"{self._where}{'' if main and self._main else said}".strip(" ·") + self._left)

    def idle(self) -> None:
        """Hide it until the next work."""
        self._began.clear()
        self._left, self._where, self._shown = "", "", 0.0
        self.widget.layout.display = "none"


def duration(seconds: float) -> str:
    """Return a time in the unit that people would use."""
    for size, unit in ((3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"
