"""The alignment panel: permutations, displacements, the search for the center and its certified gap."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import ipywidgets
from matplotlib.figure import Figure

from ..._core.gaps import gap_text
from ..._core.progress import Tick
from ...centers import CENTERS, BarycenterMethod
from ...checkpoint import Checkpoint
from ...plots.live import alignment_figure, search_figure
from ...transport.run import SOLVERS
from ..controls import dropdown
from ..selection import Selection
from ..views import TransportView, view_transport
from ._base import Panel, command_line
from ._live import Computation


class TransportPanel(Panel[TransportView]):
    """One expert's permutation, the histogram of displacements, the search step by step, and the certified gap.

    Parameters
    ----------
    source, traits
        As for :class:`Panel`.
    solver
        How the Wasserstein center is searched for: ``"coordinate"``, ``"alternating"`` or ``"pot"``.

    Examples
    --------
    >>> from resmoe_lab import workbench
    >>> panel = workbench.transport("mixtral-tiny", solver="alternating").wait()
    >>> panel.view.permutations.shape == (8, panel.view.permutations.shape[1])
    True
    """

    name, title = "transport", "Alignment"
    keeps_records = True
    sentence = "How the neurons of the experts were matched to the center, and how good that matching provably is."
    draw_traits = ("expert",)
    picture_names = ("alignment", "search")
    reading: ClassVar[Mapping[str, str]] = {
        "alignment": "Left: which neuron of the expert was put into which place of the center; a diagonal means that "
        "they stood there already. Right: how far neurons were moved.",
        "search": "The objective, step by step, and the lower bound that no center whatever can beat: where both "
        "meet, the matching is proven to be the best.",
    }

    def __init__(
        self, source: Selection | Checkpoint | str | Path, *, solver: str = "coordinate", **traits: Any
    ) -> None:
        SOLVERS[solver]
        self.solver = dropdown(
            "solver", SOLVERS.names(), value=solver, doc="how the Wasserstein center is searched for"
        )
        self._steps: list[float] = []
        super().__init__(source, **traits)
        self.solver.observe(self._recompute, names="value")

    def _panel_controls(self) -> list[ipywidgets.Widget]:
        return [self.solver]

    def _options(self) -> dict[str, Any]:
        return {"solver": self.solver.value}

    def _computation(self) -> Computation[TransportView]:
        selection = self.selection
        self._steps = []
        # The default solver is not named, so that all panels share one center.
        solver = None if not _has_solver(selection.center) or self.solver.value == "coordinate" else self.solver.value
        options: dict[str, Any] = {"center": selection.center, "solver": solver}
        return partial(view_transport, selection.checkpoint, selection.layer, **options)

    def _tick(self, tick: Tick) -> None:
        """Draw the objective after each step while the search runs."""
        super()._tick(tick)
        objective = tick.facts.get("objective")
        if objective is not None and (not self._steps or self._steps[-1] != objective):
            self._steps.append(float(objective))
            steps = list(self._steps)
            figure = search_figure(steps, running=True)
            self.pictures["search"].show(figure, f"Objective after {len(steps)} steps: {steps[-1]:.4g}")

    def _figures(self) -> Mapping[str, Figure]:
        view = self._view()
        figures = {"alignment": alignment_figure(view.permutations, layer=view.layer, expert=self.selection.expert)}
        if len(view.history):
            figures["search"] = search_figure(view.history["objective"].tolist(), lower_bound=view.lower_bound)
        return figures

    def _summary(self) -> str:
        view = self._view()
        objective = (
            f"Objective {view.objective:.5g}, which is {view.relative_objective:.1%} of the experts' squared norm"
        )
        if view.lower_bound is None:
            return f"{objective}. This center has no lower bound."
        if view.gap is not None and not math.isfinite(view.gap):
            return (
                f"{objective}. <b>The certificate failed</b>: the lower bound is 0, which says nothing of this center."
            )
        return (
            f"{objective}. Lower bound of any center {view.lower_bound:.5g}: certified gap <b>{gap_text(view.gap)}</b>."
        )

    def _alt(self, name: str) -> str:
        view = self._view()
        if name == "search":
            return f"Objective after each of {len(view.history)} steps, down to {view.objective:.5g}"
        row = view.tables()["permutations"].set_index("expert").loc[self.selection.expert]
        return (
            f"Permutation of expert {self.selection.expert} of layer {view.layer}: {row['displaced']:.0%} of the "
            f"neurons moved, {row['distance']:.0%} of the layer's width on average"
        )

    def command(self) -> str:
        """Return the command line of the search."""
        selection = self.selection
        solver = ["--solver", self.solver.value] if _has_solver(selection.center) else []
        words = ["--layer", str(selection.layer), "--center", selection.center, *solver]
        return command_line("resmoe-lab", "barycenter", selection.checkpoint.name, *words)


def _has_solver(center: str) -> bool:
    """Whether a center has a choice of solvers; the others are found in one step."""
    return issubclass(CENTERS[center], BarycenterMethod)
