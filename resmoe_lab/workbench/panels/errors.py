"""What every method and center loses, at equal keep or at equal bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any, Literal

import ipywidgets
import pandas as pd
from matplotlib.figure import Figure

from ..._core.errors import UsageError
from ..._core.params import Param
from ..._core.progress import Progress
from ...centers import DEFAULT_CENTER
from ...checkpoint import Checkpoint
from ...plots.live import ErrorScreen
from ...plots.series import add_series
from ...store.layout import DEFAULT_STORAGE
from ..controls import Checks, center_names, choice, following, method_names, slider
from ..selection import Selection
from ..views import ErrorsView, view_errors
from ._base import WRAP, Panel

#: Quick ones: clustering neurons takes minutes where the others take seconds.
DEFAULT_METHODS = ("up", "sp", "svd", "m-smoe", "meo", "resmoe-up", "resmoe-svd")
_KEEP, _BYTES = "keep", "bytes"
_SHARE = Param("bytes", 0.5, 0.0, 1.0, 0.05, "budget, as a share of the experts' bytes", low_included=False)


class ErrorsPanel(Panel[ErrorsView]):
    """Error over keep for every method and center, per layer and in sum, at equal keep or at equal bytes.

    All curves are computed once; the sliders only look values up.

    Parameters
    ----------
    source, chosen
        As for :class:`Panel`.
    methods, centers
        What is compared at first.
    equal
        ``"keep"`` or ``"bytes"``: what the methods have in common where the slider stands.
    share
        Where the slider of bytes stands.
    of
        ``"all"`` layers in the mean, or the selection's ``"layer"``.

    Examples
    --------
    >>> from resmoe_lab import workbench
    >>> workbench.errors("mixtral-tiny", centers=["wasserstein", "average"])  # doctest: +SKIP
    """

    name, title = "errors", "Error curves"
    decided_by = ()
    drawn_by = ("keep",)
    picture_names = ("errors",)
    main_task = "error curves"

    def __init__(
        self,
        source: Selection | Checkpoint | str | Path,
        *,
        methods: Sequence[str] = DEFAULT_METHODS,
        centers: Sequence[str] = (DEFAULT_CENTER,),
        equal: Literal["keep", "bytes"] = "keep",
        share: float = _SHARE.default,
        of: Literal["all", "layer"] = "all",
        **chosen: Any,
    ) -> None:
        self.methods = Checks("methods", list(dict.fromkeys([*method_names(), *methods])), methods)
        self.centers = Checks("centers", list(dict.fromkeys([*center_names(), *centers])), centers)
        self.equal = ipywidgets.ToggleButtons(
            options=[("equal keep", _KEEP), ("equal bytes", _BYTES)], value=equal, style={"button_width": "7rem"}
        )
        self.share = slider(_SHARE, value=_SHARE.validate(share))
        self.of = choice("curves of", [("all layers (mean)", "all"), ("the chosen layer", "layer")], value=of)
        self._screens: dict[Any, ErrorScreen] = {}
        super().__init__(source, **chosen)
        self.controls["layer"].layout.display = "" if of == "layer" else "none"
        for checks in (self.methods, self.centers):
            checks.observe(self._recompute)
        for control in (self.equal, self.share, self.of):
            control.observe(self._redraw, names="value")
        self.selection.observe(self._redraw, names="layer")

    def _own_controls(self) -> list[ipywidgets.Widget]:
        self.controls["layer"] = following(self.selection, "layer")
        switches = ipywidgets.HBox([self.equal, self.of, self.controls["layer"]], layout=ipywidgets.Layout(**WRAP))
        return [self.share, switches, self.methods.widget, self.centers.widget]

    def _options(self) -> dict[str, Any]:
        options: dict[str, Any] = {"methods": self.methods.value, "centers": self.centers.value}
        options |= {"equal": self.equal.value, "of": self.of.value}
        if self.equal.value == _BYTES:
            options["share"] = self.share.value
        if self.of.value == "layer":
            options["layer"] = self.selection.layer
        return options

    def _key(self) -> Any:
        return (tuple(self.methods.value), tuple(self.centers.value))

    def _compute(self, progress: Progress) -> ErrorsView:
        methods, centers = self.methods.value, self.centers.value
        if not methods or not centers:
            raise UsageError("nothing to compare: check at least one method and one center")
        chosen = self.selection
        return view_errors(chosen.checkpoint, chosen.layers, methods=methods, centers=centers, progress=progress)

    def _screen(self) -> tuple[ErrorScreen, float]:
        """The picture of the present curves, and where its slider stands."""
        view, byte = self._view(), self.equal.value == _BYTES
        layer = self.selection.layer if self.of.value == "layer" else None
        key = (id(view), byte, layer)
        if key not in self._screens:
            table = add_series(view.matched if byte else view.errors)
            table = table.rename(columns={"share" if byte else "keep": "at", "relative_error": "value"})
            across = "bytes / original bytes" if byte else "kept fraction"
            self._screens = {key: ErrorScreen(table[["layer", "series", "at", "value"]], layer=layer, across=across)}
        return self._screens[key], float(self.share.value if byte else self.selection.keep)

    def _figures(self) -> Mapping[str, Figure]:
        screen, at = self._screen()
        return {"errors": screen.figure(at)}

    def _show(self) -> None:
        """The picture at once; it is the one thing that a hand on the slider waits for."""
        if self.kept is None:
            return
        screen, at = self._screen()
        self.controls["keep"].layout.display = "none" if self.equal.value == _BYTES else ""
        self.share.layout.display = "" if self.equal.value == _BYTES else "none"
        self.controls["layer"].layout.display = "" if self.of.value == "layer" else "none"
        self.pictures["errors"].show(screen.png(at), self._alt("errors"))
        self._finish(["errors"])

    def _values(self) -> pd.Series:
        screen, at = self._screen()
        return screen.values(at).dropna().sort_values()

    def _words(self) -> str:
        values = self._values()
        if values.empty:
            return "No method fits into so few bytes: move the slider to the right."
        best = f"<b>{escape(str(values.index[0]))}</b> has the lowest error: {values.iloc[0]:.3f}"
        second = f", then {escape(str(values.index[1]))}: {values.iloc[1]:.3f}" if len(values) > 1 else ""
        return f"{best}{second} (relative, as stored in {DEFAULT_STORAGE.encoding.name})."

    def _alt(self, name: str) -> str:
        _, at = self._screen()
        listed = ", ".join(f"{series} {value:.3f}" for series, value in self._values().items())
        across = "share of bytes" if self.equal.value == _BYTES else "kept fraction"
        return f"Relative error of every method; at {across} {at:g}: {listed}"
