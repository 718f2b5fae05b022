"""The experts panel: similarity, norms and routing load of a layer's experts, and what a center would gain."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from html import escape
from pathlib import Path
from typing import Any, ClassVar

import ipywidgets
import numpy as np
from matplotlib.figure import Figure

from ...checkpoint import Checkpoint
from ...plots.live import dendrogram_figure, norms_figure, similarity_figure, spectrum_figure
from ..selection import Selection
from ..views import ExpertsView, view_experts
from ._base import Panel, command_line
from ._live import Computation


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
    picture_names = ("similarity", "sharing", "norms", "spectrum")
    sentence = "How alike the experts of a layer are, how large, how busy, and what a center would gain."
    reading: ClassVar[Mapping[str, str]] = {
        "similarity": "Cosine similarity of the experts' weights, as stored and after the neurons of each are put "
        "into the order of the center's. The more the right picture gains over the left one, the more a center "
        "saves.",
        "sharing": "The experts in the order of the center's neurons. Two are joined at their distance, groups at "
        "their mean distance, as a share of the experts' norm: 0 is the same expert, 1.41 (dashed) unrelated ones. "
        "Branches of one colour could share a center of their own; one colour for all means that no group stands out.",
        "norms": "Frobenius norms of every expert and of its parts; the residual is what is left after the center is "
        "taken away. On the right the share of tokens that each expert receives.",
        "spectrum": "Singular values of each weight matrix, one line an expert: what falls steeply is stored well by "
        "few ranks (svd), what is flat is not. On the right Hill's exponent of the upper half of the squared values: "
        "the smaller, the heavier the tail. In the literature small exponents go with well-trained matrices; an expert "
        "far from the others differs from them in what it has learnt.",
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

    def _computation(self) -> Computation[ExpertsView]:
        selection = self.selection
        options: dict[str, Any] = {"center": selection.center, "keep": selection.keep, "routing": self.routing.value}
        return partial(view_experts, selection.checkpoint, selection.layer, **options)

    def _figures(self) -> Mapping[str, Figure]:
        view = self._view()
        layer = view.diagnosis.layer
        return {
            "similarity": similarity_figure(view.unaligned, view.aligned, layer=layer, center=view.center),
            "sharing": dendrogram_figure(view.tree.links, view.tree.groups, layer=layer),
            "norms": norms_figure(view.norms, view.load),
            "spectrum": spectrum_figure(view.spectra.values, view.spectra.exponents, layer=layer),
        }

    def _summary(self) -> str:
        view = self._view()
        advice = f"<b>Layer {view.diagnosis.layer}.</b> {escape(view.diagnosis.advice)}"
        missing = f"<br>{escape(view.load_missing)}" if view.load is None else ""
        return f"{advice} {_sharing(view)}{missing}"

    def _alt(self, name: str) -> str:
        diagnosis = self._view().diagnosis
        if name == "similarity":
            similarity = diagnosis.similarity
            return (
                f"Cosine similarity of the experts of layer {diagnosis.layer}, on average: "
                f"{similarity['as_they_stand']:.2f} as stored, {similarity['aligned']:.2f} aligned with the best center"
            )
        if name == "sharing":
            return f"Tree of the experts of layer {diagnosis.layer}. {_sharing(self._view())}"
        if name == "spectrum":
            means = self._view().spectra.exponents.groupby("part")["exponent"].mean().items()
            listed = ", ".join(f"{part} {mean:.2f}" for part, mean in means)
            return f"Singular values of the experts of layer {diagnosis.layer}; mean tail exponents: {listed}"
        return f"Norms of the experts of layer {diagnosis.layer}, and their share of the tokens"

    def command(self) -> str:
        """Return the command line of the diagnosis."""
        selection = self.selection
        routing = "--routing" if self.routing.value else "--no-routing"
        words = ["--layers", str(selection.layer), "--keep", f"{selection.keep:g}", routing]
        return command_line("resmoe-lab", "diagnose", selection.checkpoint.name, *words)


def _sharing(view: ExpertsView) -> str:
    """Say which experts are nearest, and which groups could share a center."""
    if len(view.distances) < 2:
        return ""
    others = view.distances + np.diag(np.full(len(view.distances), np.inf))
    first, second = sorted(int(place) for place in np.unravel_index(others.argmin(), others.shape))
    near = f"Nearest are experts {first} and {second}, {others[first, second]:.2f} of their norm apart."
    groups: dict[int, list[str]] = {}
    for expert, group in view.tree.groups.items():
        groups.setdefault(group, []).append(str(expert))
    if len(groups) < 2:
        return f"{near} No group stands out: one center serves all."
    several = [", ".join(members) for members in groups.values() if len(members) > 1]
    alone = [members[0] for members in groups.values() if len(members) == 1]
    words = [f"A center of their own could be shared by {' / '.join(several)}"] if several else []
    words += [f"{'alone stands' if len(alone) == 1 else 'alone stand'} {', '.join(alone)}"] if alone else []
    return f"{near} {'; '.join(words)}."
