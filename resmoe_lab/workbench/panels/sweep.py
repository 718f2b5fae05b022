"""A sweep from choices to the front: forecast, run, stop, resume, and a budget spread over the layers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from html import escape
from pathlib import Path
from typing import Any

import ipywidgets
from matplotlib.figure import Figure

from ..._core.errors import Cancelled, DataError, UsageError
from ..._core.params import Param
from ..._core.progress import Progress
from ...checkpoint import Checkpoint
from ...experiments.run_sweep import DEFAULT_KEEPS, DEFAULT_METHODS
from ...experiments.sweep import Sweep
from ...experiments.sweep_forecast import SweepForecast
from ...plots.live import allocation_figure, front_figure
from ...plots.series import metric_words
from ...scoring.tasks import EMBEDDED_TASKS
from ..cache import Kept
from ..controls import choice, offer, slider
from ..selection import Selection
from ..views import SweepChoices, SweepView, finished_scores
from ._base import WRAP, Panel
from ._sweep_form import SweepForm
from .progress import duration

_BUDGET = Param(
    "budget", 0.5, 0.0, 1.0, 0.05, "share of the experts' bytes that all layers may take", low_included=False
)


class SweepPanel(Panel[SweepView]):
    """Choose methods, keeps, layers and tasks; see what it will take; run, stop, resume; read the front.

    Parameters
    ----------
    source, chosen
        As for :class:`Panel`.
    out
        Folder of the sweep. One that is finished is shown at once, one that was stopped can be resumed.
    methods, keeps, layers, tasks, limit
        What is measured, as :func:`~resmoe_lab.run_sweep` takes it; `layers` as the command line does.

    Examples
    --------
    >>> from resmoe_lab import workbench
    >>> workbench.sweep("mixtral-tiny", out="sweep", limit=100)  # doctest: +SKIP
    """

    name, title = "sweep", "Sweep"
    decided_by = ()
    drawn_by = placed = ("method",)
    picture_names = ("front", "allocation")
    main_task = "scores"

    def __init__(
        self,
        source: Selection | Checkpoint | str | Path,
        *,
        out: str | Path | None = None,
        methods: Sequence[str] = DEFAULT_METHODS,
        keeps: Sequence[float] = DEFAULT_KEEPS,
        layers: str = "all",
        tasks: Sequence[str] = EMBEDDED_TASKS,
        limit: int | None = 200,
        **chosen: Any,
    ) -> None:
        self.form = SweepForm(out=out, methods=methods, keeps=keeps, layers=layers, tasks=tasks, limit=limit)
        self.forecast = ipywidgets.Button(description="Forecast", tooltip="what the sweep will take")
        self.run = ipywidgets.Button(description="Run", button_style="primary", tooltip="measure, or go on")
        self.task = choice("front of", ["-"], doc="which task's front is drawn")
        self.budget = slider(_BUDGET)
        self.compare = ipywidgets.Button(description="Score this allocation", layout=ipywidgets.Layout(width="12rem"))
        self._scored: dict[tuple[str, str, float], str] = {}
        self.results = ipywidgets.VBox(layout=ipywidgets.Layout(display="none"))
        super().__init__(source, **chosen)
        if not self.form.out.value:
            self.form.out.value = f"{Path(self.selection.checkpoint.name).name}.sweep"
            self._begin()
        self.forecast.on_click(lambda _: self.tell())
        self.run.on_click(lambda _: self.begin())
        self.compare.on_click(lambda _: self.score_allocation())
        self.form.out.observe(lambda _: self._begin(), names="value")
        for control in (self.task, self.budget):
            control.observe(self._redraw, names="value")

    def _own_controls(self) -> list[ipywidgets.Widget]:
        buttons = [self.form.out, self.forecast, self.run]
        return [*self.form.rows(), ipywidgets.HBox(buttons, layout=ipywidgets.Layout(**WRAP))]

    def _result_controls(self) -> list[ipywidgets.Widget]:
        wrap = ipywidgets.Layout(**WRAP)
        self.results.children = [
            ipywidgets.HBox([self.task, self.controls["method"]], layout=wrap),
            ipywidgets.HBox([self.budget, self.compare], layout=wrap),
        ]
        return [self.results]

    def choices(self) -> SweepChoices:
        """What is chosen now.

        Raises
        ------
        UsageError
            If a field does not say anything that can be measured.
        """
        return self.form.choices(self.selection.layers)

    def tell(self) -> None:
        """Tell what the sweep will take."""
        self._guarded(lambda: self._start_forecast(self.choices()))

    def _start_forecast(self, choices: SweepChoices) -> None:
        checkpoint = self.selection.checkpoint
        self._start(lambda progress: choices.forecast(checkpoint, progress), self._told)

    def _told(self, found: SweepForecast) -> None:
        self.progress.idle()
        there = f", {found.done} of them are there already" if found.done else ""
        self.said.value = escape(
            f"{found.scores} scores{there}; each takes about {found.seconds_a_score:.1f} s. "
            f"About {duration(found.seconds)} to go. Stopping loses nothing that is scored."
        )

    def begin(self) -> None:
        """Run the sweep, or go on where a stopped one left off."""
        self._guarded(lambda: self._start_run(self.choices()))

    def _start_run(self, choices: SweepChoices) -> None:
        checkpoint = self.selection.checkpoint

        def work(progress: Progress) -> Kept[SweepView]:
            fresh, began = not (Path(choices.out) / "sweep.json").is_file(), datetime.now()
            found = SweepView(choices.run(checkpoint, progress))
            return Kept(found, began, (datetime.now() - began).total_seconds(), fresh)

        self.run.disabled = self.forecast.disabled = True
        self._start(work, self._take)

    def score_allocation(self) -> None:
        """Run the model with a keep for each layer and with one for all, at the same bytes."""
        if self.kept is None:
            return
        view, method, share, task = self._view(), self.selection.method, self.budget.value, self.task.value
        checkpoint = self.selection.checkpoint

        def work(progress: Progress) -> str:
            own, same = view.scored_allocation(checkpoint, method, share, task=task, progress=progress)
            metric = metric_words(str(own["metric"]))
            return (
                f" Scored: {task}, {metric} {own['value']:.4g} ± {own['stderr']:.2g} with a keep for each layer, "
                f"{same['value']:.4g} ± {same['stderr']:.2g} with the same keep for all."
            )

        self._start(work, lambda text: self._compared((task, method, share), text))

    def _compared(self, of: tuple[str, str, float], text: str) -> None:
        self._scored[of] = text
        self._redraw()

    def _guarded(self, call: Any) -> None:
        """Do what a button asks, and say what is wrong with what is chosen."""
        try:
            call()
        except (UsageError, DataError) as error:
            self._fail(error)

    def _begin(self) -> None:
        """Show the folder's sweep if it is finished; say how far it is if not."""
        out = self.form.folder

        def work(progress: Progress) -> Kept[SweepView] | None:
            if not out or not (Path(out) / "sweep.json").is_file():
                return None
            written = datetime.fromtimestamp((Path(out) / "sweep.json").stat().st_mtime)
            return Kept(SweepView(Sweep.load(out)), written, 0.0, fresh=False)

        self._start(work, self._found)

    def _found(self, kept: Kept[SweepView] | None) -> None:
        if kept is not None:
            self._take(kept)
            return
        self.kept = None
        self._ready()
        begun = finished_scores(self.form.folder)
        self.run.description = "Resume" if begun else "Run"
        words = (
            f"{self.form.out.value} holds {begun} scores of a sweep that was stopped: Resume goes on." if begun else ""
        )
        self.said.value = escape(words)

    def _take(self, kept: Kept[SweepView]) -> None:
        self._ready()
        self.run.description = "Run"
        tasks = kept.value.tasks
        if list(self.task.options) != tasks and tasks:
            offer(self.task, tasks)
        methods = kept.value.methods()
        if self.selection.method not in methods:
            self.selection.method = methods[0]
        offer(self.controls["method"], methods)
        self.results.layout.display = ""
        super()._take(kept)

    def _ready(self) -> None:
        self.progress.idle()
        self.run.disabled = self.forecast.disabled = False

    def _fail(self, error: BaseException) -> None:
        """A stopped sweep says what it keeps."""
        self._ready()
        begun = finished_scores(self.form.folder)
        if isinstance(error, Cancelled) and begun and self.kept is None:
            self.run.description = "Resume"
            self.said.value = escape(f"Stopped: {begun} scores are kept in {self.form.folder}. Resume goes on.")
        else:
            super()._fail(error)

    def _compute(self, progress: Progress) -> SweepView:
        return SweepView(self.choices().run(self.selection.checkpoint, progress))

    def _figures(self) -> Mapping[str, Figure]:
        view, figures = self._view(), {}
        if view.tasks:
            points, front, metric, original = view.points(self.task.value)
            figures["front"] = front_figure(points, front, task=self.task.value, metric=metric, original=original)
        method, share = self.selection.method, self.budget.value
        try:
            table = view.allocation(method, share)
        except UsageError:
            return figures
        return {**figures, "allocation": allocation_figure(table, method=method, share=share)}

    def _words(self) -> str:
        view = self._view()
        method, share = self.selection.method, self.budget.value
        try:
            table = view.allocation(method, share)
        except UsageError as error:
            return escape(str(error))
        return (
            f"<b>{escape(method)}</b> in {share:.0%} of the experts' bytes: mean relative error "
            f"{table['relative_error'].mean():.4f} with a keep for each layer, {table['uniform_error'].mean():.4f} "
            f"with keep {table['uniform_keep'].iloc[0]:g} for all."
        ) + escape(self._scored.get((self.task.value, method, share), ""))

    def _alt(self, name: str) -> str:
        view = self._view()
        if name == "allocation":
            keeps = view.allocation(self.selection.method, self.budget.value)
            listed = ", ".join(f"layer {row.layer} {row.keep:g}" for row in keeps.itertuples())
            return f"Kept fraction of each layer in {self.budget.value:.0%} of the bytes: {listed}"
        _, front, metric, _ = view.points(self.task.value)
        listed = ", ".join(f"{row.series} {row.true_share:.0%}: {row.value:.3g}" for row in front.itertuples())
        return f"{metric_words(metric)} against bytes; the front: {listed}"

    def _options(self) -> dict[str, Any]:
        found = self.choices()
        options: dict[str, Any] = {"out": found.out, "methods": list(found.methods), "keeps": list(found.keeps)}
        return options | {"layers": self.form.layers.value, "tasks": list(found.tasks), "limit": found.limit}

    def command(self) -> str:
        """The sweep as a command."""
        return self.choices().command(self.selection.checkpoint)
