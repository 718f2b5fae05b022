"""Declared parameters as widgets: one declaration makes the slider, its bounds, its step and its help."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import ipywidgets

from .._core.params import Param


def slider(param: Param) -> ipywidgets.FloatSlider:
    """Return the slider of a parameter; it takes exactly the values of ``param.grid()``."""
    grid = param.grid()
    return ipywidgets.FloatSlider(
        value=param.default,
        min=grid[0],
        max=grid[-1],
        step=param.step,
        description=param.name,
        tooltip=param.doc,
        readout_format=".2f",
        continuous_update=True,
        layout=ipywidgets.Layout(width="26rem", max_width="95%"),
        style={"description_width": "4.5rem"},
    )


def choice(name: str, options: Iterable[Any], *, value: Any = None, doc: str = "") -> ipywidgets.Dropdown:
    """Return a drop-down list; the first option is chosen unless `value` is given."""
    options = list(options)
    return ipywidgets.Dropdown(
        options=options,
        value=options[0] if value is None else value,
        description=name,
        tooltip=doc,
        layout=ipywidgets.Layout(width="15rem"),
        style={"description_width": "4.5rem"},
    )
