"""Widgets of declared parameters, and widgets linked to a selection."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import ipywidgets

from .._core.params import KEEP, Param
from ..centers import CENTERS, DEFAULT_CENTER
from ..methods import METHODS
from .selection import Selection

_STYLE = {"description_width": "4.5rem"}


def method_names() -> list[str]:
    """Return the methods that need no calibration text."""
    return [name for name in METHODS if not METHODS[name].needs_statistics]


def center_names() -> list[str]:
    """Return the centers that need no calibration text, the default first."""
    names = [name for name in CENTERS if not CENTERS[name].needs_statistics]
    return sorted(names, key=lambda name: name != DEFAULT_CENTER)


def slider(param: Param, *, value: float | None = None, name: str | None = None) -> ipywidgets.FloatSlider:
    """Return the slider of a parameter; it takes exactly the values of ``param.grid()``."""
    grid = param.grid()
    return ipywidgets.FloatSlider(
        value=param.default if value is None else value,
        min=grid[0],
        max=grid[-1],
        step=param.step,
        description=name or param.name,
        tooltip=param.doc,
        readout_format=".2f",
        continuous_update=True,
        layout=ipywidgets.Layout(width="26rem", max_width="95%"),
        style=_STYLE,
    )


def dropdown(name: str, options: Iterable[Any], *, value: Any = None, doc: str = "") -> ipywidgets.Dropdown:
    """Return a drop-down list; the first option is selected unless `value` is given."""
    options = list(options)
    return ipywidgets.Dropdown(
        options=options,
        value=options[0] if value is None else value,
        description=name,
        tooltip=doc,
        layout=ipywidgets.Layout(width="15rem"),
        style=_STYLE,
    )


class Checkboxes:
    """A row of check boxes.

    Parameters
    ----------
    title
        Label in front of the row.
    names, selected
        All names, and those that are checked at first.
    """

    def __init__(self, title: str, names: Sequence[str], selected: Iterable[str]) -> None:
        selected = set(selected)
        self.boxes = {
            name: ipywidgets.Checkbox(
                value=name in selected,
                description=name,
                indent=False,
                layout=ipywidgets.Layout(width="auto", margin="0 1rem 0 0"),
            )
            for name in names
        }
        label = ipywidgets.Label(title, layout=ipywidgets.Layout(width="5rem"))
        boxes = ipywidgets.HBox(list(self.boxes.values()), layout=ipywidgets.Layout(flex_flow="row wrap", flex="1"))
        self.widget = ipywidgets.HBox([label, boxes])

    @property
    def value(self) -> list[str]:
        """The checked names, in their order."""
        return [name for name, box in self.boxes.items() if box.value]

    @value.setter
    def value(self, names: Iterable[str]) -> None:
        names = set(names)
        for name, box in self.boxes.items():
            box.value = name in names

    def observe(self, callback: Callable[[Any], None]) -> None:
        """Call `callback` at every change."""
        for box in self.boxes.values():
            box.observe(callback, names="value")


def row_limit(limit: int | None) -> ipywidgets.BoundedIntText:
    """Return the field of how many rows of each task are scored; 0 for all."""
    return ipywidgets.BoundedIntText(
        value=limit or 0,
        min=0,
        max=10**9,
        description="rows",
        tooltip="rows of each task; 0 for all",
        layout=ipywidgets.Layout(width="12rem"),
    )


def linked_control(selection: Selection, trait: str) -> Any:
    """Return a widget that shows and sets one trait of a selection."""
    if trait == "keep":
        widget = slider(KEEP, value=selection.keep)
    else:
        doc = {"layer": "which MoE layer", "expert": "which expert", "method": "how it is compressed"}
        widget = dropdown(trait, _options(selection, trait), value=getattr(selection, trait), doc=doc.get(trait, trait))
    if trait in ("layer", "expert"):
        selection.observe(lambda _: set_options(widget, _options(selection, trait)), names="checkpoint")

    def update_widget(change: Any) -> None:
        if trait != "keep" and change["new"] not in widget.options:
            widget.options = _options(selection, trait)
        widget.value = change["new"]

    def update_selection(change: Any) -> None:
        # The value is None while the options are replaced.
        if change["new"] is not None:
            setattr(selection, trait, change["new"])

    selection.observe(update_widget, names=trait)
    widget.observe(update_selection, names="value")
    return widget


def set_options(widget: ipywidgets.Dropdown, options: Sequence[Any]) -> None:
    """Replace the options of a drop-down list; the selected value stays selected where it is still an option."""
    if list(widget.options) != list(options):
        selected = widget.value
        widget.set_trait("index", None)
        widget.options = options
        widget.value = selected if selected in options else next(iter(options), None)


def _options(selection: Selection, trait: str) -> list[Any]:
    if trait == "layer":
        return selection.layers
    if trait == "expert":
        return list(range(selection.num_experts))
    names = method_names() if trait == "method" else center_names()
    current = getattr(selection, trait)
    return names if current in names else [*names, current]
