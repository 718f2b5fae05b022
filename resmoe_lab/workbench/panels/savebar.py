"""The row below a panel: save its tables and pictures, copy the code or command that reproduces them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import anywidget
import pandas as pd
import traitlets
from matplotlib.figure import Figure

from ..._core.errors import ResmoeError
from ...plots.raster import figure_bytes
from .picture import FRONTEND

_TYPES = {"csv": "text/csv", "svg": "image/svg+xml", "png": "image/png"}


class SaveBar(anywidget.AnyWidget):
    """Buttons that save files in the browser and copy lines; a file is made when its button is pressed.

    Parameters
    ----------
    tables, figures
        Return the current tables and figures by name.
    """

    _esm = FRONTEND / "frontend.js"
    _css = FRONTEND / "frontend.css"
    kind = traitlets.Unicode("savebar").tag(sync=True)
    files: Any = traitlets.List().tag(sync=True)
    command = traitlets.Unicode("").tag(sync=True)
    code = traitlets.Unicode("").tag(sync=True)

    def __init__(
        self,
        tables: Callable[[], Mapping[str, pd.DataFrame]],
        figures: Callable[[], Mapping[str, Figure]],
    ) -> None:
        super().__init__()
        self._tables, self._figures = tables, figures
        self._file_stem = ""
        self.on_msg(self._on_message)

    def offer_files(self, stem: str, tables: list[str], figures: list[str]) -> None:
        """Offer these tables and figures; `stem` begins every file's name."""
        self._file_stem = re.sub(r"[^\w.-]+", "-", stem).strip("-")
        names = [(name, "csv") for name in tables]
        names += [(name, form) for name in figures for form in ("svg", "png")]
        self.files = [
            {"name": f"{self._file_stem}-{_slug(name)}.{form}", "label": f"{name} {form.upper()}"}
            for name, form in names
        ]

    def content(self, file: str) -> bytes:
        """Return the content of one of the offered files.

        Raises
        ------
        KeyError
            If there is no such file.
        """
        name, form = file.removeprefix(f"{self._file_stem}-").rsplit(".", 1)
        if form == "csv":
            tables = {_slug(key): table for key, table in self._tables().items()}
            return tables[name].to_csv(index=False).encode()
        figures = {_slug(key): figure for key, figure in self._figures().items()}
        return figure_bytes(figures[name], form)

    def _on_message(self, _: Any, message: Any, __: Any) -> None:
        """Send the file whose button was pressed."""
        name = str(message.get("name"))
        try:
            content = self.content(name)
        except (ResmoeError, KeyError) as error:
            self.send({"kind": "failed", "text": f"{name} could not be made: {error}"})
            return
        self.send({"kind": "saved", "name": name, "type": _TYPES[name.rsplit(".", 1)[1]]}, [content])


def _slug(name: str) -> str:
    return re.sub(r"[^\w]+", "_", name).strip("_")
