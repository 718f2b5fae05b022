"""The barycenters panel: a training of NWB-F as it goes on, then barycenters at any weights."""

from __future__ import annotations

import time
from collections.abc import Hashable, Mapping
from functools import partial
from html import escape
from pathlib import Path
from typing import Any, ClassVar

import ipywidgets
from matplotlib.figure import Figure

from ..._core.params import Param
from ..._core.progress import Tick
from ...checkpoint import Checkpoint
from ...neural.examples import first_and_rest
from ...plots.live import clouds_figure, drift_figure
from ..controls import dropdown, slider
from ..selection import Selection
from ..views import BarycentersView, view_barycenters
from ..views.barycenters import NEURONS, example_names, format_weights
from ._base import Panel
from ._live import Computation

WEIGHT = Param("weight", 0.5, 0.0, 1.0, 0.05, "weight of the first distribution; the others share the rest")
#: Least seconds between two pictures of a training: drawing takes as long as several of its steps.
_MIN_INTERVAL = 1.0
_STEPS = Param("steps", 300, 10, 10_000, 10, "outer iterations of the training")


class BarycentersPanel(Panel[BarycentersView]):
    """Distributions in the plane, and their barycenter at any weights from one training of NWB-F.

    Parameters
    ----------
    source, traits
        As for :class:`Panel`.
    example
        Which distributions; ``"neurons of experts"`` are those of the selected layer.
    weight
        Of the first distribution.
    steps, seed
        Of the training.

    Examples
    --------
    >>> from resmoe_lab import workbench
    >>> panel = workbench.barycenters("mixtral-tiny", example="ring and square")  # starts the training
    >>> panel.cancel()
    """

    name, title = "barycenters", "Barycenters"
    sentence = "The barycenter of distributions that are only known by samples, as it is learnt."
    reading: ClassVar[Mapping[str, str]] = {
        "barycenter": "Points of the given distributions, and in colour those of their barycenter at the weights of "
        "the slider.",
        "training": "How far the barycenter still moves, by step of the training: flat means done.",
    }
    compute_traits = ("layer",)
    picture_names = ("barycenter", "training")
    main_task = "train nwb-f"

    def __init__(
        self,
        source: Selection | Checkpoint | str | Path,
        *,
        example: str = "three Gaussians",
        weight: float = WEIGHT.default,
        steps: int = int(_STEPS.default),
        seed: int = 0,
        **traits: Any,
    ) -> None:
        self.example = dropdown("example", example_names(), value=example, doc="which distributions")
        self.weight = slider(WEIGHT, value=WEIGHT.validate(weight))
        low, high = int(_STEPS.low), int(_STEPS.high)
        self.steps = ipywidgets.BoundedIntText(
            value=int(_STEPS.validate(steps)), min=low, max=high, description="steps", tooltip=_STEPS.doc
        )
        self.steps.layout.width = "11rem"
        self.seed = seed
        self._drifts: list[tuple[int, float]] = []
        self._drawn = 0.0
        super().__init__(source, **traits)
        for control in (self.example, self.steps):
            control.observe(self._recompute, names="value")
        self.weight.observe(self._redraw, names="value")

    def _panel_controls(self) -> list[ipywidgets.Widget]:
        wrap = ipywidgets.Layout(flex_flow="row wrap")
        return [ipywidgets.HBox([self.example, self.steps], layout=wrap), self.weight]

    def _options(self) -> dict[str, Any]:
        options = {"example": self.example.value, "steps": self.steps.value, "seed": self.seed}
        return options | {"weight": round(self.weight.value, 6)}

    def _key(self) -> Hashable:
        """The weight needs no new training, and only one example depends on the layer."""
        layer = self.selection.layer if self.example.value == NEURONS else None
        return (self.example.value, self.steps.value, self.seed, layer)

    def _computation(self) -> Computation[BarycentersView]:
        self._drifts, self._drawn = [], 0.0
        return partial(
            view_barycenters,
            self.example.value,
            steps=self.steps.value,
            seed=self.seed,
            checkpoint=self.selection.checkpoint,
            layer=self.selection.layer,
        )

    def _tick(self, tick: Tick) -> None:
        """Draw the current state of the training."""
        super()._tick(tick)
        if "points" not in tick.facts:
            return
        self._drifts.append((tick.done, float(tick.facts["drift"])))
        if time.monotonic() - self._drawn > _MIN_INTERVAL:
            self._drawn = time.monotonic()
            steps, drifts = zip(*self._drifts, strict=True)
            title = f"after {tick.done} of {tick.total} steps"
            figure = clouds_figure(tick.facts["marginals"], tick.facts["points"], title=title)
            self.pictures["barycenter"].show(figure, f"The barycenter at equal weights {title}")
            self.pictures["training"].show(drift_figure(steps, drifts), f"Change of the barycenter {title}")

    def _weights_text(self) -> str:
        return format_weights(first_and_rest(self.weight.value, len(self._view().problem)))

    def _figures(self) -> Mapping[str, Figure]:
        view = self._view()
        table = view.training.table()
        title = f"barycenter, {self._weights_text()}"
        return {
            "barycenter": clouds_figure(view.marginals(), view.at(self.weight.value), title=title),
            "training": drift_figure(table["step"].tolist(), table["drift"].tolist()),
        }

    def _summary(self) -> str:
        view = self._view()
        distances = ", ".join(f"{distance:.2f}" for distance in view.distance(self.weight.value))
        return (
            f"{escape(view.example)}, weights <b>{self._weights_text()}</b>: sliced Wasserstein distances to the "
            f"distributions {distances}. {view.training.solver.done} outer iterations in "
            f"{view.training.seconds:.0f} s; other weights need no further training."
        )

    def _alt(self, name: str) -> str:
        view = self._view()
        if name == "training":
            drift = view.training.history[-1]["drift"]
            return f"Change of the barycenter over {view.training.solver.done} steps, down to {drift:.2g}"
        mean = view.at(self.weight.value).mean(axis=0)
        return (
            f"{len(view.problem)} distributions ({view.example}) and their barycenter at weights "
            f"{self._weights_text()}, with mean {mean[0]:.2f}, {mean[1]:.2f}"
        )
