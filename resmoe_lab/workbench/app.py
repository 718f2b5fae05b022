"""The app: all panels behind tabs, over one selection."""

from __future__ import annotations

from collections.abc import Callable
from html import escape
from pathlib import Path
from typing import Any

import ipywidgets

from .. import zoo
from .._core.errors import ResmoeError
from ..checkpoint import Checkpoint
from .panels import (
    BarycentersPanel,
    ErrorsPanel,
    ExpertsPanel,
    Explorer,
    Panel,
    SweepPanel,
    TokensPanel,
    TransportPanel,
    ZeroShotPanel,
)
from .selection import Selection, select

#: Tab titles and panels; each panel is created when its tab is first opened.
TABS: dict[str, Callable[..., Panel[Any]]] = {
    "Experts": ExpertsPanel,
    "Alignment": TransportPanel,
    "Error curves": ErrorsPanel,
    "Single layer": Explorer,
    "Tokens": TokensPanel,
    "Sweep": SweepPanel,
    "Zero-shot": ZeroShotPanel,
    "Barycenters": BarycentersPanel,
}


class Workbench:
    """All panels of a checkpoint behind tabs, and a field to open another checkpoint.

    Parameters
    ----------
    source, traits
        As for :class:`~resmoe_lab.workbench.panels.Panel`.
    """

    def __init__(self, source: Selection | Checkpoint | str | Path, **traits: Any) -> None:
        self.selection = select(source, **traits)
        self.panels: dict[str, Panel[Any]] = {}
        self.source = ipywidgets.Combobox(
            value=self.selection.checkpoint.name,
            options=zoo.names(),
            ensure_option=False,
            description="checkpoint",
            tooltip="a zoo name, a local folder, or a hub id",
            layout=ipywidgets.Layout(width="28rem", max_width="95%"),
            style={"description_width": "5.5rem"},
        )
        self.open = ipywidgets.Button(description="Open", layout=ipywidgets.Layout(width="6rem"))
        self.message = ipywidgets.HTML()
        self.tabs = ipywidgets.Tab(children=[ipywidgets.VBox() for _ in TABS], titles=list(TABS))
        self.widget = ipywidgets.VBox([ipywidgets.HBox([self.source, self.open]), self.message, self.tabs])
        self.open.on_click(lambda _: self._open())
        self.tabs.observe(self._show, names="selected_index")
        self.tabs.selected_index = 0
        self._show()

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        return self.widget._repr_mimebundle_(**kwargs)

    def _show(self, _: Any = None) -> None:
        """Create the panel of the open tab, if there is none yet."""
        index = self.tabs.selected_index or 0
        name = list(TABS)[index]
        if name not in self.panels:
            self.panels[name] = TABS[name](self.selection)
            self.tabs.children[index].children = [self.panels[name].widget]

    def _open(self) -> None:
        self.message.value = ""
        try:
            self.selection.open(self.source.value.strip())
        except ResmoeError as error:
            self.message.value = f"<span class='resmoe-error' role='alert'>{escape(str(error))}</span>"
