"""The error panel: relative errors of every method and center, at equal keep or at equal bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from html import escape
from pathlib import Path
from typing import Any, ClassVar, Literal

import ipywidgets
import pandas as pd
from matplotlib.figure import Figure

from ..._core.params import BITS
from ...centers import DEFAULT_CENTER
from ...checkpoint import Checkpoint
from ...plots.live import ErrorFigure
from ...plots.series import add_series, error_text, goes_by_bits
from ...store.layout import DEFAULT_STORAGE
from ..controls import Checkboxes, center_names, dropdown, linked_control, method_names, slider
from ..selection import Selection
from ..views import ErrorsView, view_errors
from ._base import WRAP, Panel
from ._live import Computation

#: The fast ones: clustering neurons takes minutes where the others take seconds, and coded methods code every point.
DEFAULT_METHODS = ("up", "sp", "svd", "m-smoe", "meo", "rtn", "resmoe-up", "resmoe-svd")
_KEEP, _BYTES = "keep", "bytes"
_BUDGET = replace(BITS, doc="budget: stored bits a weight, center, indices and scales included (original: 16)")


class ErrorsPanel(Panel[ErrorsView]):
    """Relative error of every method and center, by layer and as a mean, at equal keep or at equal bytes.

    Errors are those of the experts as stored (at 16 bits). All curves are computed once; the sliders look values up.

    Parameters
    ----------
    source, traits
        As for :class:`Panel`.
    methods, centers
        What is compared initially.
    equal
        ``"keep"`` or ``"bytes"``: what is equal for all methods at the slider's value.
    bits
        Initial value of the slider of bytes: stored bits a weight.
    share
        The same as a share of the original's bytes, which ``bits`` replaces.
    of
        ``"all"`` layers in the mean, or the selection's ``"layer"``.

    Examples
    --------
    >>> from resmoe_lab import workbench
    >>> panel = workbench.errors("mixtral-tiny", methods=["up"], keep=0.25).wait()
    >>> panel.view.errors.columns.tolist()
    ['layer', 'method', 'center', 'keep', 'error', 'relative_error']
    """

    name, title = "errors", "Error curves"
    keeps_records = True
    compute_traits = ()
    draw_traits = ("keep",)
    picture_names = ("errors",)
    sentence = "The error of every method, at equal kept fractions or at equal bytes."
    reading: ClassVar[Mapping[str, str]] = {
        "errors": "Squared error of what is stored, relative to the experts' squared norm, over the layers; lower is "
        "better. At equal bytes all that is stored counts: values, indices, scales and the center.",
    }
    main_task = "error curves"

    def __init__(
        self,
        source: Selection | Checkpoint | str | Path,
        *,
        methods: Sequence[str] = DEFAULT_METHODS,
        centers: Sequence[str] = (DEFAULT_CENTER,),
        equal: Literal["keep", "bytes"] = "keep",
        bits: float | None = None,
        share: float | None = None,
        of: Literal["all", "layer"] = "all",
        **traits: Any,
    ) -> None:
        self.methods = Checkboxes("methods", list(dict.fromkeys([*method_names(), *methods])), methods)
        self.centers = Checkboxes("centers", list(dict.fromkeys([*center_names(), *centers])), centers)
        self.equal = ipywidgets.ToggleButtons(
            options=[("equal keep", _KEEP), ("equal bytes", _BYTES)], value=equal, style={"button_width": "7rem"}
        )
        if bits is None:
            bits = _BUDGET.default if share is None else 16 * share
        self.bits = slider(_BUDGET, value=_BUDGET.validate(bits))
        self.of = dropdown("curves of", [("all layers (mean)", "all"), ("the chosen layer", "layer")], value=of)
        self._error_figures: dict[Any, ErrorFigure] = {}
        super().__init__(source, **traits)
        self.controls["layer"].layout.display = "" if of == "layer" else "none"
        for checks in (self.methods, self.centers):
            checks.observe(self._recompute)
        for control in (self.equal, self.bits, self.of):
            control.observe(self._redraw, names="value")
        self.selection.observe(self._redraw, names="layer")

    def _panel_controls(self) -> list[ipywidgets.Widget]:
        self.controls["layer"] = linked_control(self.selection, "layer")
        switches = ipywidgets.HBox([self.equal, self.of, self.controls["layer"]], layout=ipywidgets.Layout(**WRAP))
        return [self.bits, switches, self.methods.widget, self.centers.widget]

    def _options(self) -> dict[str, Any]:
        options: dict[str, Any] = {"methods": self.methods.value, "centers": self.centers.value}
        options |= {"equal": self.equal.value, "of": self.of.value}
        if self.equal.value == _BYTES:
            options["bits"] = self.bits.value
        if self.of.value == "layer":
            options["layer"] = self.selection.layer
        return options

    def _key(self) -> Any:
        return (tuple(self.methods.value), tuple(self.centers.value))

    def _computation(self) -> Computation[ErrorsView]:
        selection = self.selection
        options: dict[str, Any] = {"methods": self.methods.value, "centers": self.centers.value}
        return partial(view_errors, selection.checkpoint, selection.layers, **options)

    def _error_figure(self) -> tuple[ErrorFigure, float]:
        """Return the figure of the current curves, and the slider's value."""
        view, equal_bytes = self._view(), self.equal.value == _BYTES
        layer = self.selection.layer if self.of.value == "layer" else None
        key = (id(view), equal_bytes, layer)
        if key not in self._error_figures:
            table = add_series(view.equal_bytes if equal_bytes else view.errors)
            at = 16 * table["share"] if equal_bytes else table["keep"]
            table = table.assign(at=at).rename(columns={"relative_error": "value"})
            across = "stored bits a weight" if equal_bytes else "kept fraction"
            self._error_figures = {
                key: ErrorFigure(table[["layer", "series", "at", "value"]], layer=layer, across=across)
            }
        return self._error_figures[key], float(self.bits.value if equal_bytes else self.selection.keep)

    def _figures(self) -> Mapping[str, Figure]:
        figure, at = self._error_figure()
        return {"errors": figure.figure(at)}

    def _show(self) -> None:
        """Draw the quick picture rather than a whole figure, so that the slider responds at once."""
        if self.result is None:
            return
        figure, at = self._error_figure()
        self.controls["keep"].layout.display = "none" if self.equal.value == _BYTES else ""
        self.bits.layout.display = "" if self.equal.value == _BYTES else "none"
        self.controls["layer"].layout.display = "" if self.of.value == "layer" else "none"
        self.pictures["errors"].show(figure.png(at), self._alt("errors"))
        self._finish(["errors"])

    def _values(self) -> pd.Series:
        figure, at = self._error_figure()
        return figure.values(at).dropna().sort_values()

    def _summary(self) -> str:
        values = self._values()
        if values.empty:
            return "No method fits into so few bytes: move the slider to the right."
        best = f"<b>{escape(str(values.index[0]))}</b> has the lowest error: {error_text(values.iloc[0])}"
        second = f", then {escape(str(values.index[1]))}: {error_text(values.iloc[1])}" if len(values) > 1 else ""
        told = [str(name) for name in values.index if goes_by_bits(str(name))]
        words = ""
        if told and self.equal.value == _KEEP:
            bits = 16 * float(values.name)  # type: ignore[arg-type]
            words = f" Told {bits:g} bits a weight, which is this keep of 16: {escape(', '.join(told))}."
        return f"{best}{second} (relative, as stored in {DEFAULT_STORAGE.encoding.name}).{words}"

    def _alt(self, name: str) -> str:
        _, at = self._error_figure()
        listed = ", ".join(f"{series} {error_text(value)}" for series, value in self._values().items())
        across = "bits a weight" if self.equal.value == _BYTES else "kept fraction"
        return f"Relative error of every method; at {across} {at:g}: {listed}"
