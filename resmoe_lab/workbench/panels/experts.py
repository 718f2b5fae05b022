"""The experts panel: similarity, norms and routing load of a layer's experts, and what a center would gain."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any, ClassVar

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
    source, traits
        As for :class:`Panel`.
    routing
        Run the model on text to measure each expert's share of the tokens.

    Examples
    --------
    >>> from resmoe_lab import workbench
    >>> panel = workbench.experts("mixtral-tiny", layer=2, routing=False).wait()
    >>> panel.view.aligned.shape  # cosine similarities
    (8, 8)
    """

    name, title = "experts", "Experts"
    keeps_records = True
    compute_traits = ("layer", "center", "keep")
    picture_names = ("similarity", "norms")
    sentence = "How alike the experts of a layer are, how large, how busy, and what a center would gain."
    reading: ClassVar[Mapping[str, str]] = {
        "similarity": "Cosine similarity of the experts' weights, as stored and after the neurons of each are put "
        "into the order of the center's. The more the right picture gains over the left one, the more a center "
        "saves.",
        "norms": "Frobenius norms of every expert and of its parts; the residual is what is left after the center is "
        "taken away. On the right the share of tokens that each expert receives.",
    }

    def __init__(self, source: Selection | Checkpoint | str | Path, *, routing: bool = True, **traits: Any) -> None:
        self.routing = ipywidgets.Checkbox(
            value=routing, description="run the model to measure the routing load", indent=False
        )
        super().__init__(source, **traits)
        self.routing.observe(self._recompute, names="value")

    def _panel_controls(self) -> list[ipywidgets.Widget]:
        return [self.routing]

    def _options(self) -> dict[str, Any]:
        return {"routing": self.routing.value}

    def _compute(self, progress: Progress) -> ExpertsView:
        selection = self.selection
        options: dict[str, Any] = {"center": selection.center, "keep": selection.keep, "routing": self.routing.value}
        return view_experts(selection.checkpoint, selection.layer, progress=progress, **options)

    def _figures(self) -> Mapping[str, Figure]:
        view = self._view()
        layer = view.diagnosis.layer
        return {
            "similarity": similarity_figure(view.unaligned, view.aligned, layer=layer, center=view.center),
            "norms": norms_figure(view.norms, view.load),
        }

    def _summary(self) -> str:
        view = self._view()
        advice = f"<b>Layer {view.diagnosis.layer}.</b> {escape(view.diagnosis.advice)}"
        return advice + (f"<br>{escape(view.load_missing)}" if view.load is None else "")

    def _alt(self, name: str) -> str:
        diagnosis = self._view().diagnosis
        if name == "similarity":
            similarity = diagnosis.similarity
            return (
                f"Cosine similarity of the experts of layer {diagnosis.layer}, on average: "
                f"{similarity['as_they_stand']:.2f} as stored, {similarity['aligned']:.2f} aligned with the best center"
            )
        return f"Norms of the experts of layer {diagnosis.layer}, and their share of the tokens"

    def command(self) -> str:
        """Return the command line of the diagnosis."""
        selection = self.selection
        routing = "--routing" if self.routing.value else "--no-routing"
        words = ["--layers", str(selection.layer), "--keep", f"{selection.keep:g}", routing]
        return command_line("resmoe-lab", "diagnose", selection.checkpoint.name, *words)
