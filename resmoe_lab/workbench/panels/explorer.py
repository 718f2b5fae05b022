"""One layer under a slider: what each method loses, and what is left of one expert's weights."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import ipywidgets
from matplotlib.figure import Figure

from ..._core.errors import UsageError
from ..._core.progress import Progress
from ...checkpoint import Checkpoint
from ...methods import METHODS
from ...plots.live import ErrorScreen, permutation_figure, residual_figure
from ...plots.series import add_series
from ..controls import choice
from ..layer import LayerBench, open_layer
from ..selection import Selection
from ..views import ErrorsView, view_errors
from ._base import Panel, command_line

_METHODS = ("up", "svd", "resmoe-up", "resmoe-svd")
_RESIDUAL, _PERMUTATIONS = "before and after", "permutations"


class Explorer(Panel[ErrorsView]):
    """What each method loses of one layer at the slider's kept fraction, and what it leaves of one expert.

    Parameters
    ----------
    source, chosen
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

    name, title = "Explorer", "One layer, one expert"
    decided_by = ("layer", "center")
    drawn_by = ("method", "expert", "keep")
    picture_names = ("errors", "weights")

    def __init__(
        self, source: Selection | Checkpoint | str | Path, *, methods: Sequence[str] = _METHODS, **chosen: Any
    ) -> None:
        self._methods = tuple(methods)
        self._screen: tuple[ErrorsView, ErrorScreen] | None = None
        self.picture = choice("picture", [_RESIDUAL, _PERMUTATIONS], doc="what the lower picture shows")
        super().__init__(source, **chosen)
        self.picture.observe(self._redraw, names="value")

    def _own_controls(self) -> list[ipywidgets.Widget]:
        return [self.picture]

    def _options(self) -> dict[str, Any]:
        return {"methods": list(self._methods)}

    def _shown_methods(self) -> list[str]:
        """The methods that are compared, and the chosen one."""
        return list(dict.fromkeys([*self._methods, self.selection.method]))

    def _key(self) -> Hashable:
        return (self.selection.layer, self.selection.center, tuple(self._shown_methods()))

    def _compute(self, progress: Progress) -> ErrorsView:
        chosen, methods = self.selection, self._shown_methods()
        return view_errors(
            chosen.checkpoint, [chosen.layer], methods=methods, centers=[chosen.center], progress=progress
        )

    def bench(self) -> LayerBench:
        """The layer on the bench."""
        layer = int(self._view().errors["layer"].iloc[0])
        return open_layer(self.selection.checkpoint, layer, center=self.selection.center).value

    def _curves(self) -> ErrorScreen:
        view = self._view()
        if self._screen is None or self._screen[0] is not view:
            table = add_series(view.errors).rename(columns={"keep": "at", "relative_error": "value"})
            self._screen = view, ErrorScreen(table[["layer", "series", "at", "value"]])
        return self._screen[1]

    def _figures(self) -> Mapping[str, Figure]:
        return {"errors": self._curves().figure(self.selection.keep), "weights": self._weights()}

    def _weights(self) -> Figure:
        chosen, bench = self.selection, self.bench()
        if self.picture.value == _PERMUTATIONS:
            return permutation_figure(bench.permutations, layer=bench.stack.layer)
        before, after = bench.matrices(chosen.method, chosen.keep, chosen.expert)
        what = "residual of expert" if METHODS[chosen.method].uses_center else "expert"
        title = f"{chosen.method}: {what} {chosen.expert}, layer {bench.stack.layer}"
        return residual_figure(before, after, blocks=bench.blocks, title=title)

    def _show(self) -> None:
        """The curves first; a method that cannot keep so little says so in place of its picture."""
        if self.kept is None:
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

    def _words(self) -> str:
        chosen, view = self.selection, self._view()
        rows = view.errors[view.errors["method"] == chosen.method]
        error = float(rows["relative_error"].iloc[(rows["keep"] - chosen.keep).abs().argmin()])
        return f"Layer {rows['layer'].iloc[0]}, {chosen.method} at keep {chosen.keep:g}: relative error {error:.3f}"

    def _alt(self, name: str) -> str:
        if name == "errors":
            return self._words()
        return f"{self.selection.method}: weights of expert {self.selection.expert} before and after, and what is lost"

    def command(self) -> str:
        """The compression of this layer as a command."""
        chosen = self.selection
        words = ["--method", chosen.method, "--keep", f"{chosen.keep:g}", "--layers", str(chosen.layer)]
        return command_line("resmoe-lab", "plan", chosen.checkpoint.name, *words, "--center", chosen.center)
