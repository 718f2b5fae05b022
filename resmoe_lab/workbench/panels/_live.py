"""Base class of all panels: compute in a thread, draw, show errors in one line."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Mapping
from html import escape
from typing import Any, ClassVar, Generic, Protocol, TypeVar

import ipywidgets
from matplotlib.figure import Figure

from ..._core.errors import Cancelled, ResmoeError
from ..._core.progress import Progress, Tick
from ..cache import VIEWS, CachedResult
from ..job import Job, Latest
from ..views import View
from .picture import PicturePanel, with_reading
from .progress import ProgressPanel
from .savebar import SaveBar

V = TypeVar("V", bound=View)
V_co = TypeVar("V_co", bound=View, covariant=True)
T = TypeVar("T")
WRAP = {"flex_flow": "row wrap"}


class Computation(Protocol[V_co]):
    """Computes a record; all that it needs was given to it when it was made."""

    def __call__(self, *, progress: Progress) -> V_co: ...


class LivePanel(ABC, Generic[V]):
    """An interactive view.

    A panel is displayed as the last expression of a notebook cell. :meth:`_compute` returns a record, from which
    the panel draws its pictures and :meth:`freeze` makes the report's charts.
    """

    #: Name in code and in file names; heading on the screen.
    name: ClassVar[str]
    title: ClassVar[str]
    #: Controls of selection traits that the panel puts into its own rows.
    placed_controls: ClassVar[tuple[str, ...]] = ()
    #: What one sees here, in a plain sentence below the title.
    sentence: ClassVar[str] = ""
    #: Names of the pictures, from top to bottom.
    picture_names: ClassVar[tuple[str, ...]] = ()
    #: How to read each picture, and what else is drawn.
    reading: ClassVar[Mapping[str, str]] = {}
    #: The task whose ticks give the remaining time.
    main_task: ClassVar[str | None] = None

    def __init__(self, controls: Mapping[str, Any] | None = None) -> None:
        self.result: CachedResult[V] | None = None
        self._job: Job[Any] | None = None
        self._generation, self._settled = 0, threading.Event()
        self._visible = True
        #: What a control that moved while the panel was hidden will do when it is shown.
        self._waiting: Callable[[], None] | None = None
        self._latest = Latest(self._fail)
        self.progress = ProgressPanel(self.cancel, main=self.main_task)
        self.pictures = {name: PicturePanel() for name in self.picture_names}
        self.mark, self.message = ipywidgets.HTML(), ipywidgets.HTML()
        self.message.add_class("resmoe-panel-said")
        self.save = SaveBar(lambda: self._view().tables(), self._figures)
        self.controls = dict(controls or {})
        self.widget = self._build_widget()

    # What each panel defines.

    @abstractmethod
    def _subject(self) -> Any:
        """Return what the panel shows: a checkpoint, or files."""

    @abstractmethod
    def _fingerprint(self, subject: Any) -> Hashable:
        """Return a key of the subject's files; called in a thread."""

    @abstractmethod
    def _file_stem(self) -> str:
        """Return the beginning of the names of saved files."""

    @abstractmethod
    def code(self) -> str:
        """Return the Python code that shows what is on the screen."""

    @abstractmethod
    def _computation(self) -> Computation[V]:
        """Return what computes the record of the current values of the controls.

        It is called in a thread, later than the controls are read here: it must not read them itself, as they may
        have moved on, and its record is kept for the values that they have now.
        """

    @abstractmethod
    def _figures(self) -> Mapping[str, Figure]:
        """Draw the record: a figure for each visible picture."""

    @abstractmethod
    def _summary(self) -> str:
        """Summarise the record in a line or two of HTML, with every name escaped."""

    def _options(self) -> dict[str, Any]:
        """Return the current values of the panel's own keyword arguments."""
        return {}

    @abstractmethod
    def _key(self) -> Hashable:
        """Return the cache key of the record, without the subject."""

    def _panel_controls(self) -> list[ipywidgets.Widget]:
        """Return the rows of controls of this panel only."""
        return []

    def _result_controls(self) -> list[ipywidgets.Widget]:
        """Return the rows of controls between the summary and the pictures, which work on a result."""
        return []

    def _record_controls(self) -> list[ipywidgets.Widget]:
        """Return the rows of controls below the mark that says how old the record is."""
        return []

    def command(self) -> str:
        """Return the command line that computes what is on the screen."""
        return ""

    def _alt(self, name: str) -> str:
        """Return the alternative text of a picture."""
        return f"{self.title}: {name}"

    # Common to all panels.

    def _build_widget(self) -> ipywidgets.VBox:
        heading = ipywidgets.HTML(
            f"<h3>{escape(self.title)}</h3><p class='resmoe-sentence'>{escape(self.sentence)}</p>"
        )
        shared = [control for name, control in self.controls.items() if name not in self.placed_controls]
        left = ipywidgets.VBox([heading, *shared, *self._panel_controls(), self.mark, *self._record_controls()])
        left.add_class("resmoe-controls")
        pictures = ipywidgets.Box(
            [with_reading(picture, self.reading.get(name)) for name, picture in self.pictures.items()]
        )
        pictures.add_class("resmoe-pictures")
        results = [with_reading(control, self.reading.get(self.name)) for control in self._result_controls()]
        right = ipywidgets.VBox([self.progress.widget, self.message, *results, pictures, self.save])
        right.add_class("resmoe-results")
        both = ipywidgets.Box([left, right])
        both.add_class("resmoe-panel")
        return ipywidgets.VBox([both])

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        return self.widget._repr_mimebundle_(**kwargs)

    def _view(self) -> V:
        """Return the record on the screen."""
        assert self.result is not None
        return self.result.value

    @property
    def view(self) -> V | None:
        """The record on the screen, or None before the first one."""
        return None if self.result is None else self.result.value

    def cancel(self) -> None:
        """Cancel the running computation; what is on the screen stays."""
        if self._job is not None:
            self._job.cancel()

    def close(self) -> None:
        """Cancel the computation and remove the panel from the screen."""
        self.cancel()
        self.widget.close()

    def wait(self, timeout: float | None = None) -> Any:
        """Wait until the panel shows the current selection; return the panel.

        Raises
        ------
        ResmoeError
            The error of the computation, if it failed.
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
        """Return the charts of the record by name, interactive without a kernel; waits until it is computed."""
        self.wait()
        return self._view().charts()

    def set_visible(self, visible: bool) -> None:
        """Tell the panel whether it is on the screen: a hidden one follows its controls when it is shown again."""
        self._visible = visible
        if visible and self._waiting is not None:
            call, self._waiting = self._waiting, None
            call()

    def _recompute(self, _: Any = None) -> None:
        """Follow a control that decides the record."""
        if self._visible:
            self._begin()
        else:
            self._waiting = self._begin

    def _begin(self) -> None:
        """Compute the record of the current selection, or take it from the cache."""
        subject, key, compute = self._subject(), self._key(), self._computation()

        def record(progress: Progress) -> V | CachedResult[V]:
            return self._record(subject, key, lambda: compute(progress=progress))

        def work(progress: Progress) -> CachedResult[V]:
            return VIEWS.get((self.name, self._fingerprint(subject), key), record, progress)

        self._expect(True)
        self._start(work, self._show_result)

    def _expect(self, pending: bool) -> None:
        """Show skeletons where pictures are missing that are being computed, or no longer."""
        for picture in self.pictures.values():
            if picture.has_trait("pending"):
                picture.set_trait("pending", pending)

    def _record(self, subject: Any, key: Hashable, compute: Callable[[], V]) -> V | CachedResult[V]:
        """Return the record of a key: computed, or from where it was kept."""
        return compute()

    def _start(self, work: Callable[[Progress], T], then: Callable[[T], None]) -> None:
        """Run `work` in a thread and pass its result to `then`; earlier work is cancelled."""
        self.cancel()
        self._generation += 1
        generation = self._generation
        self._settled.clear()
        self._job = Job(work, progress=self._tick, done=lambda job: self._ended(generation, job, then))

    def _show_result(self, result: CachedResult[V]) -> None:
        """Show a new record."""
        self.result = result
        self._redraw()

    def _tick(self, tick: Tick) -> None:
        self.progress(tick)

    def _ended(self, generation: int, job: Job[T], then: Callable[[T], None]) -> None:
        """Show the result or error of the newest work; results of cancelled work are dropped."""
        if generation != self._generation:
            return
        error = job.error
        if error is None:
            then(job.result())
        else:
            self._fail(error)
        self._settled.set()

    def _redraw(self, change: Any = None) -> None:
        """Draw the record again; where a control asks for it, only on the screen."""
        if change is not None and not self._visible:
            self._waiting = self._waiting or self._redraw
        elif self.result is not None:
            self._latest.submit(self._show)

    def _show(self) -> None:
        """Update pictures, summary, mark and the lines to copy."""
        if self.result is None:
            return
        figures = self._figures()
        for name, picture in self.pictures.items():
            if name in figures:
                picture.show(figures[name], self._alt(name))
            else:
                picture.hide()
        self._finish(list(figures))

    def _finish(self, figures: list[str]) -> None:
        assert self.result is not None
        self.progress.idle()
        self.message.value = self._summary()
        self.mark.value = f"<span class='resmoe-mark'>{escape(self.result.mark)}</span>"
        self._offer_files(figures)

    def _offer_files(self, figures: list[str]) -> None:
        """Offer the files to save and the lines to copy."""
        self.save.offer_files(f"{self._file_stem()}-{self.name}", list(self._view().tables()), figures)
        self.save.command, self.save.code = self.command(), self.code()

    def _fail(self, error: BaseException) -> None:
        """Show an error in one line; what was on the screen before stays there."""
        self.progress.idle()
        self._expect(False)
        if isinstance(error, Cancelled):
            self.message.value = escape(f"Stopped: {error}.")
        else:
            message = str(error) if isinstance(error, ResmoeError) else f"{type(error).__name__}: {error}"
            self.message.value = f"<span class='resmoe-error' role='alert'>{escape(' '.join(message.split()))}</span>"
