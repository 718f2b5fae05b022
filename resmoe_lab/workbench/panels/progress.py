"""A progress bar with a stop button, for any work that ticks."""

from __future__ import annotations

from collections.abc import Callable
from html import escape

import ipywidgets

from ..._core.progress import Tick


class ProgressPanel:
    """Renders ticks; hidden while nothing runs.

    Parameters
    ----------
    stop
        Called when the stop button is pressed.
    """

    def __init__(self, stop: Callable[[], None]) -> None:
        self._bar = ipywidgets.IntProgress(layout=ipywidgets.Layout(width="14rem"))
        self._button = ipywidgets.Button(description="Stop", layout=ipywidgets.Layout(width="5rem"))
        self._button.on_click(lambda _: stop())
        self._text = ipywidgets.HTML()
        self._row = ipywidgets.HBox([self._bar, self._button])
        self.widget = ipywidgets.VBox([self._row, self._text])
        self.idle("")

    def __call__(self, tick: Tick) -> None:
        """Show a tick."""
        self._bar.max = tick.total or max(1, tick.done)
        self._bar.value = tick.done
        self._row.layout.display = ""
        self.say(f"{tick.task} …")

    def idle(self, text: str) -> None:
        """Hide the bar and leave a line of text."""
        self._row.layout.display = "none"
        self.say(text)

    def say(self, text: str) -> None:
        """Show a line of text, whatever names it holds."""
        self._text.value = escape(text)
