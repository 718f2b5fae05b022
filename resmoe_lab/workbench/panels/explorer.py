"""The single-layer panel: the error of each method, and one expert's weights before and after compression."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import ipywidgets
from matplotlib.figure import Figure

from ..._core.errors import UsageError
from ...checkpoint import Checkpoint
from ...methods import METHODS
from ...plots.live import ErrorFigure, permutation_figure, residual_figure
from ...plots.series import add_series, error_text, goes_by_bits
from ...store.layout import DEFAULT_STORAGE
from ..controls import dropdown
from ..layer import LoadedLayer, open_layer
from ..selection import Selection
from ..views import ErrorsView, view_errors
from ._base import Panel, command_line, setting_words
from ._live import Computation

_METHODS = ("up", "svd", "resmoe-up", "resmoe-svd")
_RESIDUAL, _PERMUTATIONS = "before and after", "permutations"


class Explorer(Panel[ErrorsView]):
    """Each method's error on one layer at the slider's kept fraction, and one expert's weights before and after.

    Parameters
    ----------
    source, traits
        As for :class:`Panel`.
    methods
        The methods that are compared.

    Examples
    --------
    >>> import resmoe_lab as rl
    >>> explorer = rl.Explorer("mixtral-tiny", methods=["up"], method="resmoe-up", keep=0.5)  # shown by a notebook
    >>> sorted(explorer.wait().pictures)
    ['errors', 'weights']
    """

    name, title = "Explorer", "Single layer"
    keeps_records = True
    compute_traits = ("layer", "center")
    draw_traits = ("method", "expert", "keep")
    picture_names = ("errors", "weights")
    sentence = "One layer: the error of each method, and one expert's weights before and after."
    reading: ClassVar[Mapping[str, str]] = {
        "errors": "Squared error of the restored experts over the squared norm of the originals, against the kept "
        "fraction; lower is better. The line marks the slider.",
        "weights": "What the method compresses (an expert, or its residual from the center), what is restored of it, "
        "and the difference, in one colour scale. Permutations: which neuron of each expert was put into which "
        "place.",
    }

    def __init__(
        self, source: Selection | Checkpoint | str | Path, *, methods: Sequence[str] = _METHODS, **traits: Any
    ) -> None:
        self._methods = tuple(methods)
        self._error_figure: tuple[ErrorsView, ErrorFigure] | None = None
        self.picture = dropdown("picture", [_RESIDUAL, _PERMUTATIONS], doc="what the lower picture shows")
        super().__init__(source, **traits)
        self.picture.observe(self._redraw, names="value")

    def _panel_controls(self) -> list[ipywidgets.Widget]:
        return [self.picture]

    def _options(self) -> dict[str, Any]:
        return {"methods": list(self._methods)}

    def _shown_methods(self) -> list[str]:
        """Return the methods that are compared, and the selected one."""
        return list(dict.fromkeys([*self._methods, self.selection.method]))

    def _key(self) -> Hashable:
        return (self.selection.layer, self.selection.center, tuple(self._shown_methods()))

    def _computation(self) -> Computation[ErrorsView]:
        selection = self.selection
        options: dict[str, Any] = {"methods": self._shown_methods(), "centers": [selection.center]}
        return partial(view_errors, selection.checkpoint, [selection.layer], **options)

    def loaded_layer(self) -> LoadedLayer:
        """Return the layer of the record, with its experts and center."""
        layer = int(self._view().errors["layer"].iloc[0])
        return open_layer(self.selection.checkpoint, layer, center=self.selection.center).value

    def _curves(self) -> ErrorFigure:
        view = self._view()
        if self._error_figure is None or self._error_figure[0] is not view:
            table = add_series(view.errors).rename(columns={"keep": "at", "relative_error": "value"})
            self._error_figure = view, ErrorFigure(table[["layer", "series", "at", "value"]])
        return self._error_figure[1]

    def _figures(self) -> Mapping[str, Figure]:
        return {"errors": self._curves().figure(self.selection.keep), "weights": self._weights()}

    def _weights(self) -> Figure:
        selection, loaded = self.selection, self.loaded_layer()
        if self.picture.value == _PERMUTATIONS:
            return permutation_figure(loaded.permutations, layer=loaded.stack.layer)
        before, after, residual = loaded.matrices(selection.method, selection.keep, selection.expert)
        matrix = "residual of expert" if residual else "expert"
        title = f"{selection.method}: {matrix} {selection.expert}, layer {loaded.stack.layer}"
        return residual_figure(before, after, blocks=loaded.blocks, title=title)

    def _show(self) -> None:
        """Draw the curves first; a method that cannot keep so little shows an error in place of its weights."""
        if self.result is None:
            return
        if self.selection.method not in set(self._view().errors["method"]):
            self._begin()
            return
        self.pictures["errors"].show(self._curves().png(self.selection.keep), self._alt("errors"))
        try:
            self.pictures["weights"].show(self._weights(), self._alt("weights"))
        except UsageError as error:
            self.pictures["weights"].hide()
            self._finish(["errors"])
            self._fail(error)
            return
        self._finish(["errors", "weights"])

    def _summary(self) -> str:
        selection, view = self.selection, self._view()
        rows = view.errors[view.errors["method"] == selection.method]
        lost = float(rows["relative_error"].iloc[(rows["keep"] - selection.keep).abs().argmin()])
        where = f"Layer {rows['layer'].iloc[0]}, {selection.method} at keep {selection.keep:g}"
        if goes_by_bits(selection.method):
            try:
                bits = METHODS[selection.method].method.bits_of(selection.keep)
            except UsageError as error:
                return str(error)
            return f"{where}, which is {bits:g} bits a weight: relative error {error_text(lost)}"
        return f"{where}: relative error {error_text(lost)} (as stored in {DEFAULT_STORAGE.encoding.name})"

    def _alt(self, name: str) -> str:
        if name == "errors":
            return self._summary()
        method, expert = self.selection.method, self.selection.expert
        return f"{method}: weights of expert {expert} before and after compression, and their difference"

    def command(self) -> str:
        """Return the command line of this layer's compression plan."""
        selection = self.selection
        words = [
            "--method",
            selection.method,
            *setting_words(selection.method, selection.keep),
            "--layers",
            str(selection.layer),
        ]
        return command_line("resmoe-lab", "plan", selection.checkpoint.name, *words, "--center", selection.center)
