"""The experts of a layer: how alike, how large, how busy, and what a common expert would gain."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

import ipywidgets
from matplotlib.figure import Figure

from ..._core.progress import Progress
from ...checkpoint import Checkpoint
from ...plots.live import norms_figure, similarity_figure
from ..selection import Selection
from ..views import ExpertsView, view_experts
from ._base import Panel, command_line


class ExpertsPanel(Panel[ExpertsView]):
    """Similarity of a layer's experts, their norms, the routing load, and the diagnosis with its advice.

    Parameters
    ----------
    source, chosen
        As for :class:`Panel`.
    routing
        Run the model on text to see who receives the tokens.

    Examples
    --------
    >>> from resmoe_lab import workbench
    >>> workbench.experts("mixtral-tiny", layer=2)  # doctest: +SKIP
    """

    name, title = "experts", "Experts"
    decided_by = ("layer", "center", "keep")
    picture_names = ("similarity", "norms")

    def __init__(self, source: Selection | Checkpoint | str | Path, *, routing: bool = True, **chosen: Any) -> None:
        self.routing = ipywidgets.Checkbox(value=routing, description="run the model to see its routing", indent=False)
        super().__init__(source, **chosen)
        self.routing.observe(self._recompute, names="value")

    def _own_controls(self) -> list[ipywidgets.Widget]:
        return [self.routing]

    def _options(self) -> dict[str, Any]:
        return {"routing": self.routing.value}

    def _compute(self, progress: Progress) -> ExpertsView:
        chosen = self.selection
        options: dict[str, Any] = {"center": chosen.center, "keep": chosen.keep, "routing": self.routing.value}
        return view_experts(chosen.checkpoint, chosen.layer, progress=progress, **options)

    def _figures(self) -> Mapping[str, Figure]:
        view = self._view()
        layer = view.diagnosis.layer
        return {
            "similarity": similarity_figure(view.standing, view.aligned, layer=layer, center=view.center),
            "norms": norms_figure(view.norms, view.load),
        }

    def _words(self) -> str:
        view = self._view()
        advice = f"<b>Layer {view.diagnosis.layer}.</b> {escape(view.diagnosis.advice)}"
        return advice + (f"<br>{escape(view.load_missing)}" if view.load is None else "")

    def _alt(self, name: str) -> str:
        found = self._view().diagnosis
        if name == "similarity":
            alike = found.similarity
            return (
                f"Cosine similarity of the experts of layer {found.layer}: {alike['as_they_stand']:.2f} on average "
                f"as they stand, {alike['aligned']:.2f} in the order of the best center"
            )
        return f"Norms of the experts of layer {found.layer}, and their share of the tokens"

    def command(self) -> str:
        """The diagnosis as a command."""
        chosen = self.selection
        routing = "--routing" if self.routing.value else "--no-routing"
        words = ["--layers", str(chosen.layer), "--keep", f"{chosen.keep:g}", routing]
        return command_line("resmoe-lab", "diagnose", chosen.checkpoint.name, *words)
