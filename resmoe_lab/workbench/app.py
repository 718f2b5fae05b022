"""The app: all panels behind tabs, over one selection."""

from __future__ import annotations

import threading
from collections.abc import Callable
from html import escape
from pathlib import Path
from typing import Any

import ipywidgets

from .. import zoo
from .._core.errors import ResmoeError
from .._core.progress import Progress, Tick
from .._core.units import human_bytes
from ..checkpoint import Checkpoint
from ..experts import family_of
from ..methods import METHODS
from ..plots.series import setting_label
from .job import Job
from .panels import (
    AblationPanel,
    BarycentersPanel,
    ErrorsPanel,
    ExpertsPanel,
    Explorer,
    FusionPanel,
    LivePanel,
    MapPanel,
    SweepPanel,
    TokensPanel,
    TransportPanel,
    ZeroShotPanel,
)
from .selection import Selection, select

#: Tab titles and panels; each panel is created when its tab is first opened.
TABS: dict[str, Callable[[Selection], LivePanel[Any]]] = {
    "Map": MapPanel,
    "Experts": ExpertsPanel,
    "Alignment": TransportPanel,
    "Error curves": ErrorsPanel,
    "Single layer": Explorer,
    "Tokens": TokensPanel,
    "Ablation": AblationPanel,
    "Sweep": SweepPanel,
    "Zero-shot": ZeroShotPanel,
    "Fusion": lambda _: FusionPanel(),
    "Barycenters": BarycentersPanel,
}
#: Tabs that are computed before they are opened: not those that train, or wait for a button.
PREFETCHED = ("Experts", "Alignment", "Tokens", "Ablation", "Single layer", "Error curves")
#: Embedded models up to this size are computed in seconds.
_PREFETCH_BYTES = 1 << 27


class Workbench:
    """All panels of a checkpoint behind tabs, and a field to open another checkpoint.

    Parameters
    ----------
    source, traits
        As for :class:`~resmoe_lab.workbench.panels.Panel`.
    """

    def __init__(self, source: Selection | Checkpoint | str | Path, **traits: Any) -> None:
        self.selection = select(source, **traits)
        self.panels: dict[str, LivePanel[Any]] = {}
        self._lock = threading.Lock()
        self._prefetching: Job[None] | None = None
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
        self.header = ipywidgets.HTML()
        self.tabs = ipywidgets.Tab(children=[ipywidgets.VBox() for _ in TABS], titles=list(TABS))
        row = ipywidgets.HBox([self.source, self.open], layout=ipywidgets.Layout(flex_flow="row wrap"))
        self.widget = ipywidgets.VBox([row, self.header, self.message, self.tabs])
        self.widget.add_class("resmoe-app")
        self.open.on_click(lambda _: self._open())
        self.selection.observe(self._name_model, names=["checkpoint", "method", "center", "keep"])
        self._name_model()
        self.tabs.observe(self._show, names="selected_index")
        self.tabs.selected_index = 0
        self._show()

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        return self.widget._repr_mimebundle_(**kwargs)

    def _show(self, _: Any = None) -> None:
        """Create the panel of the open tab, if there is none yet."""
        shown = self._panel(list(TABS)[self.tabs.selected_index or 0])
        for panel in list(self.panels.values()):
            panel.set_visible(panel is shown)

    def _panel(self, name: str) -> LivePanel[Any]:
        """Return a tab's panel, created if there is none yet."""
        with self._lock:
            if name not in self.panels:
                self.panels[name] = TABS[name](self.selection)
                self.panels[name].set_visible(list(TABS)[self.tabs.selected_index or 0] == name)
                self.tabs.children[list(TABS).index(name)].children = [self.panels[name].widget]
            return self.panels[name]

    def prefetch(self) -> None:
        """Compute in the background what the other tabs of an embedded model will show first, one after the other.

        A larger model waits until a tab is opened; so does what trains, or takes the user's decision.
        """
        if self._is_small():
            self._prefetching = Job(self._compute_tabs)

    def _is_small(self) -> bool:
        checkpoint = self.selection.checkpoint
        return checkpoint.name in zoo.names() and checkpoint.total_bytes < _PREFETCH_BYTES

    def _compute_tabs(self, progress: Progress) -> None:
        for name in PREFETCHED:
            if not self._is_small():  # another one was opened meanwhile
                return
            panel = self._panel(name)
            progress(Tick(f"prefetch {name}", 0))
            try:
                panel.wait()
            except ResmoeError:  # its tab tells it
                continue

    def _name_model(self, _: Any = None) -> None:
        """Say which model this is, and in which form the panels show it."""
        selection, checkpoint = self.selection, self.selection.checkpoint
        family, layers = family_of(checkpoint).name, len(selection.layers)
        size = f"{human_bytes(checkpoint.total_bytes)}, {layers} layers of {selection.num_experts} experts"
        form = f"{selection.method} at {setting_label(selection.method, selection.keep)}"
        if METHODS[selection.method].uses_center:
            form += f", center {selection.center}"
        parts = [
            f"<b>{escape(Path(checkpoint.name).name)}</b>",
            escape(f"family {family}"),
            size,
            escape(f"form: {form}"),
        ]
        self.header.value = f"<div class='resmoe-header'>{''.join(f'<span>{part}</span>' for part in parts)}</div>"

    def _open(self) -> None:
        self.message.value = ""
        try:
            self.selection.open(self.source.value.strip())
        except ResmoeError as error:
            self.message.value = f"<span class='resmoe-error' role='alert'>{escape(str(error))}</span>"
