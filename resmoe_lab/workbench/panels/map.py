"""The map panel: where a checkpoint's bytes are, before and after compression."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from html import escape
from pathlib import Path
from typing import Any, ClassVar

import anywidget
import ipywidgets
import traitlets
from matplotlib.figure import Figure

from ... import plots
from ..._core.units import human_bytes
from ...checkpoint import Checkpoint
from ...plots.live import map_figure
from ..selection import Selection
from ..views import MapView, view_map
from ._base import Panel, command_line, setting_words
from ._live import Computation

_FRONTEND = Path(plots.__file__).parent


class MapPicture(anywidget.AnyWidget):
    """The map, drawn in the browser: hover tells what a part is, a click chooses its layer."""

    _esm = _FRONTEND / "modelmap.js"
    _css = _FRONTEND / "modelmap.css"
    data = traitlets.Dict(allow_none=True, default_value=None).tag(sync=True)
    layer = traitlets.Int(allow_none=True, default_value=None).tag(sync=True)


class MapPanel(Panel[MapView]):
    """The whole checkpoint in one picture: layers down, tensors across, areas as bytes, before and after compression.

    It is drawn from the headers of the files, before anything is computed. A click on a layer chooses it in all panels.

    Parameters
    ----------
    source, traits
        As for :class:`Panel`.
    errors
        Also compress every layer, to colour it by its relative error.

    Examples
    --------
    >>> from resmoe_lab import workbench
    >>> panel = workbench.model_map("mixtral-tiny", keep=0.25).wait()
    >>> list(panel.view.forms)
    ['as stored', 'resmoe-up at 0.25, forecast']
    """

    name, title = "model_map", "Map"
    compute_traits = ("method", "center", "keep")
    sentence = "Where the bytes of the checkpoint are, as it is stored and as the chosen method would store it."
    reading: ClassVar[Mapping[str, str]] = {
        "model_map": "A row is a layer, a rectangle one part of it, and its area the bytes that it takes: all forms "
        "have one scale. Bits a weight count everything that is stored, also indices, scales and the center. A "
        "forecast is made of sizes alone; methods that code by entropy are estimated.",
    }
    main_task = "error of every layer"

    def __init__(self, source: Selection | Checkpoint | str | Path, *, errors: bool = False, **traits: Any) -> None:
        self.errors = ipywidgets.Checkbox(
            value=errors, description="compress every layer, to colour it by its error", indent=False
        )
        self.map = MapPicture()
        super().__init__(source, **traits)
        self.map.layer = self.selection.layer
        self.errors.observe(self._recompute, names="value")
        self.map.observe(self._choose_layer, names="layer")
        self.selection.observe(self._follow_layer, names="layer")

    def _panel_controls(self) -> list[ipywidgets.Widget]:
        return [self.errors]

    def _result_controls(self) -> list[ipywidgets.Widget]:
        return [self.map]

    def _options(self) -> dict[str, Any]:
        return {"errors": self.errors.value}

    def _choose_layer(self, change: Any) -> None:
        if change["new"] in self.selection.layers:
            self.selection.layer = change["new"]

    def _follow_layer(self, change: Any) -> None:
        self.map.layer = change["new"]

    def _computation(self) -> Computation[MapView]:
        selection = self.selection
        form: dict[str, Any] = {"method": selection.method, "keep": selection.keep, "center": selection.center}
        return partial(view_map, selection.checkpoint, **form, errors=self.errors.value)

    def _show(self) -> None:
        data = self._view().data()
        if data != self.map.data:
            self.map.data = data
        super()._show()

    def _figures(self) -> Mapping[str, Figure]:
        return {"map": map_figure(self._view().forms)}

    def _summary(self) -> str:
        view = self._view()
        sizes = {name: int(table["bytes"].sum()) for name, table in view.forms.items()}
        first = next(iter(view.forms.values()))
        experts = int(first.loc[first["part"].isin(["experts", "center"]), "bytes"].sum())
        name, size = next(iter(sizes.items()))
        model = f"<b>{escape(view.name)}</b> ({escape(view.family)})"
        words = f"{model}: {human_bytes(size)}, {experts / size:.0%} of it experts"
        for name, other in list(sizes.items())[1:]:
            words += f"; {escape(name)}: {human_bytes(other)}, {other / size:.0%}"
        if view.errors:
            worst = max(view.errors, key=lambda layer: view.errors[layer])
            words += f"; the largest relative error is {view.errors[worst]:.3g} (layer {worst})"
        return words + "."

    def command(self) -> str:
        """Return the command line of the compression's plan."""
        selection = self.selection
        words = ["--method", selection.method, *setting_words(selection.method, selection.keep)]
        return command_line("resmoe-lab", "plan", selection.checkpoint.name, *words, "--center", selection.center)
