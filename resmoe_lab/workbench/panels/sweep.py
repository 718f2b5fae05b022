"""The sweep panel: forecast, run, stop and resume a sweep; its Pareto front; a budget of bytes over the layers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from html import escape
from pathlib import Path
from typing import Any, ClassVar

import ipywidgets
from matplotlib.figure import Figure

from ..._core.errors import Cancelled, DataError, UsageError
from ..._core.params import Param
from ..._core.progress import Progress
from ...checkpoint import Checkpoint
from ...experiments.sweep import Sweep
from ...experiments.sweep_config import DEFAULT_KEEPS, DEFAULT_METHODS
from ...experiments.sweep_forecast import SweepForecast
from ...experiments.variants import DEFAULT_BITS
from ...plots.live import allocation_figure, front_figure
from ...plots.series import goes_by_bits, metric_label, setting_label
from ...scoring.tasks import EMBEDDED_TASKS
from ..cache import CachedResult
from ..controls import dropdown, set_options, slider
from ..kept import KeptSweep, newest_sweep
from ..selection import Selection
from ..views import SweepChoices, SweepView, finished_scores
from ._base import WRAP, Panel
from ._live import Computation
from ._sweep_form import SweepForm
from .progress import duration

_BUDGET = Param(
    "budget", 0.5, 0.0, 1.0, 0.05, "share of the experts' bytes that all layers may take", low_included=False
)


class SweepPanel(Panel[SweepView]):
    """Choose methods, keeps, layers and tasks; forecast, run, stop and resume the sweep; see its Pareto front.

    Parameters
    ----------
    source, traits
        As for :class:`Panel`.
    out
        Folder of the sweep. A finished sweep is shown at once, a stopped one can be resumed.
    methods, keeps, bits, layers, tasks, limit
        What is measured, as :func:`~resmoe_lab.run_sweep` takes it; `layers` as the command line does.

    Examples
    --------
    >>> from resmoe_lab import workbench
    >>> workbench.sweep("mixtral-tiny", out="sweep", limit=100)  # doctest: +SKIP
    """

    name, title = "sweep", "Sweep"
    sentence = "Errors, scores and bytes of many settings: computed once, then only looked up."
    compute_traits = ()
    draw_traits = placed_controls = ("method",)
    picture_names = ("front", "allocation")
    reading: ClassVar[Mapping[str, str]] = {
        "front": "Every point is one setting that was scored; those on the line are beaten by none with fewer bytes.",
        "allocation": "What each layer gets of a budget when bytes go where they save the most error.",
    }
    main_task = "scores"

    def __init__(
        self,
        source: Selection | Checkpoint | str | Path,
        *,
        out: str | Path | None = None,
        methods: Sequence[str] = DEFAULT_METHODS,
        keeps: Sequence[float] = DEFAULT_KEEPS,
        bits: Sequence[float] = DEFAULT_BITS,
        layers: str = "all",
        tasks: Sequence[str] = EMBEDDED_TASKS,
        limit: int | None = 200,
        **traits: Any,
    ) -> None:
        choices: dict[str, Any] = {"methods": methods, "keeps": keeps, "bits": bits, "layers": layers}
        self.form = SweepForm(out=out, tasks=tasks, limit=limit, **choices)
        self.forecast = ipywidgets.Button(description="Forecast", tooltip="what the sweep will take")
        self.run = ipywidgets.Button(description="Run", button_style="primary", tooltip="measure, or go on")
        self.task = dropdown("front of", ["-"], doc="which task's front is drawn")
        self.budget = slider(_BUDGET)
        self.compare = ipywidgets.Button(description="Score this allocation", layout=ipywidgets.Layout(width="12rem"))
        self._scored: dict[tuple[str, str, float], str] = {}
        #: Where the sweep on the screen is from, unless it is that of the form.
        self._place = ""
        self.results = ipywidgets.VBox(layout=ipywidgets.Layout(display="none"))
        super().__init__(source, **traits)
        if not self.form.out.value:
            self.form.out.value = f"{Path(self.selection.checkpoint.name).name}.sweep"
            self._begin()
        self.forecast.on_click(lambda _: self.estimate())
        self.run.on_click(lambda _: self.begin())
        self.compare.on_click(lambda _: self.score_allocation())
        self.form.out.observe(lambda _: self._begin(), names="value")
        for control in (self.task, self.budget):
            control.observe(self._redraw, names="value")

    def _panel_controls(self) -> list[ipywidgets.Widget]:
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
        """Return the settings in the form.

        Raises
        ------
        UsageError
            If a field is not valid.
        """
        return self.form.choices(self.selection.layers)

    def estimate(self) -> None:
        """Forecast how long the sweep will take."""
        self._guarded(lambda: self._start_forecast(self.choices()))

    def _start_forecast(self, choices: SweepChoices) -> None:
        checkpoint = self.selection.checkpoint
        self._start(lambda progress: choices.forecast(checkpoint, progress), self._show_forecast)

    def _show_forecast(self, forecast: SweepForecast) -> None:
        self.progress.idle()
        finished = f", {forecast.done} of them are finished" if forecast.done else ""
        self.message.value = escape(
            f"{forecast.scores} scores{finished}; each takes about {forecast.seconds_a_score:.1f} s. "
            f"About {duration(forecast.seconds)} left. Finished scores are kept when the sweep is stopped."
        )

    def begin(self) -> None:
        """Run the sweep, or resume a stopped one."""
        self._guarded(lambda: self._start_run(self.choices()))

    def _start_run(self, choices: SweepChoices) -> None:
        run = _sweep(choices, self.selection.checkpoint)

        def work(progress: Progress) -> CachedResult[SweepView]:
            fresh, started = not (Path(choices.out) / "sweep.json").is_file(), datetime.now()
            view = run(progress=progress)
            return CachedResult(view, started, (datetime.now() - started).total_seconds(), fresh)

        self.run.disabled = self.forecast.disabled = True
        self._start(work, self._show_measured)

    def _show_measured(self, result: CachedResult[SweepView]) -> None:
        self._place = ""
        self._show_result(result)

    def score_allocation(self) -> None:
        """Run the model with a keep for each layer and with one for all, at the same bytes."""
        if self.result is None:
            return
        view, method, share, task = self._view(), self.selection.method, self.budget.value, self.task.value
        checkpoint = self.selection.checkpoint

        def work(progress: Progress) -> str:
            own, same = view.scored_allocation(checkpoint, method, share, task=task, progress=progress)
            metric = metric_label(str(own["metric"]))
            return (
                f" Scored: {task}, {metric} {own['value']:.4g} ± {own['stderr']:.2g} with a keep for each layer, "
                f"{same['value']:.4g} ± {same['stderr']:.2g} with the same keep for all."
            )

        self._start(work, lambda text: self._compared((task, method, share), text))

    def _compared(self, of: tuple[str, str, float], text: str) -> None:
        self._scored[of] = text
        self._redraw()

    def _guarded(self, call: Any) -> None:
        """Call the action of a button, and show the error if the form is not valid."""
        try:
            call()
        except (UsageError, DataError) as error:
            self._fail(error)

    def _begin(self) -> None:
        """Show the folder's sweep if it is finished, else the newest of this model, and how many scores it has."""
        out, checkpoint = self.form.folder, self.selection.checkpoint

        def work(progress: Progress) -> KeptSweep | None:
            if not out or not (Path(out) / "sweep.json").is_file():
                return None if finished_scores(out) else newest_sweep(checkpoint)
            written = datetime.fromtimestamp((Path(out) / "sweep.json").stat().st_mtime)
            return KeptSweep(Sweep.load(out), "", written)

        self._start(work, self._show_saved)

    def _show_saved(self, kept: KeptSweep | None) -> None:
        if kept is not None:
            self._place = kept.place
            self._show_result(CachedResult(SweepView(kept.sweep), kept.date, 0.0, fresh=False))
            return
        self.result = None
        self._ready()
        started = finished_scores(self.form.folder)
        self.run.description = "Resume" if started else "Run"
        words = (
            f"{self.form.out.value} holds {started} scores of a sweep that was stopped: Resume goes on."
            if started
            else ""
        )
        self.message.value = escape(words)

    def _show_result(self, result: CachedResult[SweepView]) -> None:
        self._ready()
        self.run.description = "Run"
        tasks = result.value.tasks
        if list(self.task.options) != tasks and tasks:
            set_options(self.task, tasks)
        methods = result.value.methods()
        if self.selection.method not in methods:
            self.selection.method = methods[0]
        set_options(self.controls["method"], methods)
        self.results.layout.display = ""
        super()._show_result(result)

    def _ready(self) -> None:
        self.progress.idle()
        self.run.disabled = self.forecast.disabled = False

    def _fail(self, error: BaseException) -> None:
        """Show how many scores a stopped sweep has."""
        self._ready()
        started = finished_scores(self.form.folder)
        if isinstance(error, Cancelled) and started and (self.result is None or self._place):
            self.run.description = "Resume"
            self.message.value = escape(f"Stopped: {started} scores are kept in {self.form.folder}. Resume goes on.")
        else:
            super()._fail(error)

    def _computation(self) -> Computation[SweepView]:
        return _sweep(self.choices(), self.selection.checkpoint)

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

    def _summary(self) -> str:
        view, place = self._view(), self._place
        method, share = self.selection.method, self.budget.value
        begin = f"<b>From {escape(place)}</b>; Run measures what the form says.<br>" if place else ""
        try:
            table = view.allocation(method, share)
        except UsageError as error:
            return begin + escape(str(error))
        setting = "number of bits" if goes_by_bits(method) else "keep"
        allocated, uniform = table["relative_error"].mean(), table["uniform_error"].mean()
        return (
            f"{begin}<b>{escape(method)}</b> in {share:.0%} of the experts' bytes: mean relative error "
            f"{allocated:.4f} with a {setting} for each layer, {uniform:.4f} "
            f"with {setting_label(method, table['uniform_keep'].iloc[0])} for all."
        ) + escape(self._scored.get((self.task.value, method, share), ""))

    def _alt(self, name: str) -> str:
        view = self._view()
        if name == "allocation":
            keeps = view.allocation(self.selection.method, self.budget.value)
            pairs = zip(keeps["layer"], keeps["keep"].astype(float), strict=True)
            listed = ", ".join(f"layer {layer} {setting_label(self.selection.method, keep)}" for layer, keep in pairs)
            return f"What each layer keeps in {self.budget.value:.0%} of the bytes: {listed}"
        _, front, metric, _ = view.points(self.task.value)
        points = zip(front["series"], 16 * front["true_share"], front["value"], strict=True)
        listed = ", ".join(f"{series} {bits:.2f} bits: {value:.3g}" for series, bits, value in points)
        return f"{metric_label(metric)} against stored bits; the front: {listed}"

    def _options(self) -> dict[str, Any]:
        choices = self.choices()
        config = choices.config.model_dump(mode="json", include={"methods", "keeps", "bits", "tasks", "limit"})
        return {"out": choices.out, **config, "layers": self.form.layers.value}

    def command(self) -> str:
        """Return the command line of the sweep."""
        return self.choices().command(self.selection.checkpoint)


def _sweep(choices: SweepChoices, checkpoint: Checkpoint) -> Computation[SweepView]:
    return lambda *, progress: SweepView(choices.run(checkpoint, progress))
