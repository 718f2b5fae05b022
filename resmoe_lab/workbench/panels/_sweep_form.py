"""The form of a sweep: its folder and what is measured."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import ipywidgets

from ..._core.errors import UsageError
from ..._core.params import BITS, KEEP, Param
from ...compress import select_layers
from ...experiments.sweep_config import SweepConfig
from ...scoring.tasks import TASKS
from ..controls import Checkboxes, center_names, dropdown, method_names, row_limit
from ..views import SweepChoices
from ._base import WRAP


class SweepForm:
    """Fields that make a :class:`~resmoe_lab.workbench.views.SweepChoices`.

    Parameters
    ----------
    out, methods, keeps, bits, layers, tasks, limit
        Initial values, as :class:`~.sweep.SweepPanel` takes them.
    """

    def __init__(
        self,
        *,
        out: str | Path | None,
        methods: Sequence[str],
        keeps: Sequence[float],
        bits: Sequence[float],
        layers: str,
        tasks: Sequence[str],
        limit: int | None,
    ) -> None:
        wide = ipywidgets.Layout(width="22rem", max_width="95%")
        self.out = ipywidgets.Text(value=str(out or ""), description="folder", layout=wide)
        self.methods = Checkboxes("methods", list(dict.fromkeys([*method_names(), *methods])), methods)
        self.tasks = Checkboxes("tasks", list(dict.fromkeys([*TASKS, *tasks])), tasks)
        self.keeps = ipywidgets.Text(value=", ".join(f"{k:g}" for k in keeps), description="keeps", layout=wide)
        self.bits = ipywidgets.Text(
            value=", ".join(f"{value:g}" for value in bits), description="bits", tooltip=BITS.doc, layout=wide
        )
        self.layers = ipywidgets.Text(value=layers, description="layers", layout=ipywidgets.Layout(width="12rem"))
        self.center = dropdown("center", center_names(), doc="how centers are found")
        self.limit = row_limit(limit)

    @property
    def folder(self) -> str:
        """The sweep's folder; empty if none is named."""
        return str(self.out.value).strip()

    def rows(self) -> list[ipywidgets.Widget]:
        """Return all fields but the folder, from top to bottom."""
        fields = [self.keeps, self.bits, self.layers, self.limit, self.center]
        return [self.methods.widget, self.tasks.widget, ipywidgets.HBox(fields, layout=ipywidgets.Layout(**WRAP))]

    def choices(self, available: Sequence[int]) -> SweepChoices:
        """Return the settings in the fields, for a model with the `available` layers.

        Raises
        ------
        UsageError
            If a field is not valid.
        """
        methods, tasks = tuple(self.methods.value), tuple(self.tasks.value)
        if not methods or not tasks:
            raise UsageError("nothing to measure: check at least one method and one task")
        if not self.folder:
            raise UsageError("the sweep has no folder: name one")
        layers = select_layers(self.layers.value, available)
        config = SweepConfig(
            layers=tuple(layers),
            methods=methods,
            keeps=_numbers(self.keeps.value, KEEP),
            bits=_numbers(self.bits.value, BITS),
            center=self.center.value,
            tasks=tasks,
            limit=self.limit.value or None,
        )
        return SweepChoices(self.folder, config)


def _numbers(text: str, param: Param) -> tuple[float, ...]:
    """Parse kept fractions such as '0.1, 0.25', or bits."""
    plural = f"{param.name}s" if param is KEEP else param.name
    try:
        values = tuple(float(word) for word in text.replace(",", " ").split())
    except ValueError as error:
        raise UsageError(f"{plural} {text!r} is not a list of numbers: {param.doc}") from error
    if not values:
        raise UsageError(f"no {plural} are named: {param.doc}")
    return tuple(param.validate(value) for value in values)
