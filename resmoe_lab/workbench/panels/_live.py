"""What every panel does alike: compute in a thread, draw, and say what went wrong in one line."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Mapping
from html import escape
from typing import Any, ClassVar, Generic, TypeVar

import ipywidgets
from matplotlib.figure import Figure

from ..._core.errors import Cancelled, ResmoeError
from ..._core.progress import Progress, Tick
from ..cache import VIEWS, Kept
from ..job import Job, Latest
from ..views import View
from .picture import PicturePanel
from .progress import ProgressPanel
from .savebar import SaveBar

V = TypeVar("V", bound=View)
T = TypeVar("T")
WRAP = {"flex_flow": "row wrap"}


class LivePanel(ABC, Generic[V]):
    """A live view of something.

    A panel is shown by being the last line of a notebook cell. It draws from a record that one function computes
    (:meth:`_compute`); :meth:`freeze` makes the report's charts of the same record.
    """

    #: What the panel is called in code and in file names, and on the screen.
    name: ClassVar[str]
    title: ClassVar[str]
    #: Controls that the panel puts into its own rows.
    placed: ClassVar[tuple[str, ...]] = ()
    #: Pictures from top to bottom.
    picture_names: ClassVar[tuple[str, ...]] = ()
    #: The task whose ticks tell the time left.
    main_task: ClassVar[str | None] = None

    def __init__(self, controls: Mapping[str, Any] | None = None) -> None:
        self.kept: Kept[V] | None = None
        self._job: Job[Any] | None = None
        self._turn, self._settled = 0, threading.Event()
        self._latest = Latest(self._fail)
        self.progress = ProgressPanel(self.cancel, main=self.main_task)
        self.pictures = {name: PicturePanel() for name in self.picture_names}
        self.mark, self.said = ipywidgets.HTML(), ipywidgets.HTML()
        self.said.add_class("resmoe-panel-said")
        self.save = SaveBar(lambda: self._view().tables(), self._figures)
        self.controls = dict(controls or {})
        self.widget = self._laid_out()

    # What a panel is made of.

    @abstractmethod
    def _subject(self) -> Any:
        """What is looked at now."""

    @abstractmethod
    def _stamp(self, subject: Any) -> Hashable:
        """Tell what the subject's files are now; asked in a thread."""

    @abstractmethod
    def _stem(self) -> str:
        """How the names of saved files begin."""

    @abstractmethod
    def code(self) -> str:
        """The Python code that shows what is on the screen."""

    @abstractmethod
    def _compute(self, progress: Progress) -> V:
        """Compute the record in a thread, from the selection and the panel's own controls as they are."""

    @abstractmethod
    def _figures(self) -> Mapping[str, Figure]:
        """Draw the record, one figure a picture that is to be seen."""

    @abstractmethod
    def _words(self) -> str:
        """Say in a line or two, as HTML with every name escaped, what the record says."""

    def _options(self) -> dict[str, Any]:
        """The panel's own keywords as they are on the screen."""
        return {}

    @abstractmethod
    def _key(self) -> Hashable:
        """What decides the record, beside the subject."""

    def _own_controls(self) -> list[ipywidgets.Widget]:
        """Rows of controls that belong to this panel alone."""
        return []

    def _result_controls(self) -> list[ipywidgets.Widget]:
        """Rows of controls between the words and the pictures, for what is done with a result."""
        return []

    def command(self) -> str:
        """The command line that computes what is on the screen."""
        return ""

    def _alt(self, name: str) -> str:
        """What a picture shows, in words."""
        return f"{self.title}: {name}"

    # What all panels do.

    def _laid_out(self) -> ipywidgets.VBox:
        heading = ipywidgets.HTML(f"<h3 style='margin:.2rem 0'>{escape(self.title)}</h3>")
        top = ipywidgets.HBox([heading, self.mark], layout=ipywidgets.Layout(**WRAP, align_items="center"))
        shared = [control for name, control in self.controls.items() if name not in self.placed]
        choices = ipywidgets.HBox(shared, layout=ipywidgets.Layout(**WRAP))
        above, below = [top, choices, *self._own_controls()], [*self.pictures.values(), self.save]
        return ipywidgets.VBox([*above, self.progress.widget, self.said, *self._result_controls(), *below])

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        return self.widget._repr_mimebundle_(**kwargs)

    def _view(self) -> V:
        """The record on the screen."""
        assert self.kept is not None
        return self.kept.value

    @property
    def view(self) -> V | None:
        """The record on the screen, once there is one."""
        return None if self.kept is None else self.kept.value

    def cancel(self) -> None:
        """Stop what is being computed; what is on the screen stays."""
        if self._job is not None:
            self._job.cancel()

    def close(self) -> None:
        """Stop, and take the panel off the screen."""
        self.cancel()
        self.widget.close()

    def wait(self, timeout: float | None = None) -> Any:
        """Wait until the panel shows what is chosen; return the panel itself.

        Raises
        ------
        ResmoeError
            What kept it from that.
        TimeoutError
            If it takes more than `timeout` seconds.
        """
        if self._job is not None:
            self._job.result(timeout)
            if not self._settled.wait(timeout):
                raise TimeoutError(f"{self.name} was not shown in {timeout} seconds")
        self._redraw()
        self._latest.wait(timeout)
        return self

    def freeze(self) -> Mapping[str, Any]:
        """Return the charts of what is on the screen, alive without a kernel, by name; waits until it is computed."""
        self.wait()
        return self._view().charts()

    def _recompute(self, _: Any = None) -> None:
        self._begin()

    def _begin(self) -> None:
        """Compute what is chosen now, unless it has been computed before."""
        subject, key = self._subject(), self._key()

        def work(progress: Progress) -> Kept[V]:
            return VIEWS.get((self.name, self._stamp(subject), key), self._compute, progress)

        self._start(work, self._take)

    def _start(self, work: Callable[[Progress], T], then: Callable[[T], None]) -> None:
        """Do some work in a thread, and then something with its result; whatever was being done is stopped."""
        self.cancel()
        self._turn += 1
        turn = self._turn
        self._settled.clear()
        self._job = Job(work, progress=self._tick, done=lambda job: self._ended(turn, job, then))

    def _take(self, kept: Kept[V]) -> None:
        """Show a record."""
        self.kept = kept
        self._redraw()

    def _tick(self, tick: Tick) -> None:
        self.progress(tick)

    def _ended(self, turn: int, job: Job[T], then: Callable[[T], None]) -> None:
        """Show what came of the newest work; older work was stopped and is nobody's concern."""
        if turn != self._turn:
            return
        error = job.error
        if error is None:
            then(job.result())
        else:
            self._fail(error)
        self._settled.set()

    def _redraw(self, _: Any = None) -> None:
        if self.kept is not None:
            self._latest.submit(self._show)

    def _show(self) -> None:
        """Bring pictures, words, mark and lines up to what is chosen."""
        if self.kept is None:
            return
        figures = self._figures()
        for name, picture in self.pictures.items():
            if name in figures:
                picture.show(figures[name], self._alt(name))
            else:
                picture.hide()
        self._finish(list(figures))

    def _finish(self, figures: list[str]) -> None:
        assert self.kept is not None
        self.progress.idle()
        self.said.value = self._words()
        self.mark.value = f"<span class='resmoe-mark'>{escape(self.kept.mark)}</span>"
        self._offer(figures)

    def _offer(self, figures: list[str]) -> None:
        """Offer what is on the screen to be saved and copied."""
        self.save.offer(f"{self._stem()}-{self.name}", list(self._view().tables()), figures)
        self.save.command, self.save.code = self.command(), self.code()

    def _fail(self, error: BaseException) -> None:
        """Say in one line what went wrong; what was on the screen before stays there."""
        self.progress.idle()
        if isinstance(error, Cancelled):
            self.said.value = escape(f"Stopped: {error}.")
        else:
            said = str(error) if isinstance(error, ResmoeError) else f"{type(error).__name__}: {error}"
            self.said.value = f"<span class='resmoe-error' role='alert'>{escape(' '.join(said.split()))}</span>"
