"""The fusion panel: accuracy of two networks averaged at any weight."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from functools import partial
from pathlib import Path
from typing import ClassVar, cast

import ipywidgets
from matplotlib.figure import Figure

from ...fusion import ENSEMBLE, FUSED, VANILLA, WEIGHT
from ...plots.live import mixing_figure
from ..cache import CachedResult, file_fingerprint
from ..controls import dropdown, slider
from ..shipped import fusion_example
from ..views import FusionView, view_fusion
from ._live import WRAP, Computation, LivePanel

_EXAMPLE = (
    "<b>An example</b> (figure 2 of the paper): network A alone has seen the digit 4, and a tenth of the other images; "
    "B has seen the rest of them."
)
_INVITATION = (
    "Name the files of two fully connected networks that were trained alike, such as those that the notebook 60_fusion "
    "trains, to see their average at every weight."
)


class FusionPanel(LivePanel[FusionView]):
    """Accuracy of two networks' OT average and vanilla average, for every mixing weight and every class.

    Parameters
    ----------
    first, second
        Files of two fully connected networks, see :func:`~resmoe_lab.fusion.load_mlpnet`. The second one's neurons are
        the reference. Without them the panel shows an example that comes with the package.
    by
        ``"weights"`` or ``"activations"``: what neurons are compared by.
    weight
        Of the second network.
    data_dir
        Folder where MNIST is looked for first.

    Examples
    --------
    >>> from resmoe_lab import workbench
    >>> workbench.fusion("specialist.safetensors", "generalist.safetensors", weight=0.4)  # doctest: +SKIP
    """

    name, title = "fusion", "Fusion"
    sentence = "Two trained networks averaged at every weight, with and without matching their neurons."
    reading: ClassVar[Mapping[str, str]] = {
        "mixing": "Accuracy of the average at every weight of the second network, and by class. Matched neurons keep "
        "the average good between the two ends.",
    }
    picture_names = ("mixing",)
    main_task = "mixing"

    def __init__(
        self,
        first: str | Path = "",
        second: str | Path = "",
        *,
        by: str = "weights",
        weight: float = WEIGHT.default,
        data_dir: str | Path | None = None,
    ) -> None:
        self.first, self.second = _field("network A", first), _field("network B", second)
        self.by = dropdown("by", ["weights", "activations"], value=by, doc="what neurons are compared by")
        self.weight = slider(WEIGHT, value=WEIGHT.validate(weight), name="weight")
        self._data_dir = data_dir
        super().__init__()
        for control in (self.first, self.second, self.by):
            control.observe(self._recompute, names="value")
        self.weight.observe(self._redraw, names="value")
        self._begin()

    def _panel_controls(self) -> list[ipywidgets.Widget]:
        return [ipywidgets.HBox([self.first, self.second, self.by], layout=ipywidgets.Layout(**WRAP)), self.weight]

    def _subject(self) -> tuple[Path, Path]:
        return Path(self.first.value.strip()), Path(self.second.value.strip())

    def _fingerprint(self, subject: tuple[Path, Path]) -> Hashable:
        # A missing file is reported when it is read. The order of the networks matters.
        return (*map(str, subject), file_fingerprint(path for path in subject if path.is_file()))

    def _begin(self) -> None:
        if self.first.value.strip() and self.second.value.strip():
            super()._begin()
        else:
            self._show_example()

    def _show_example(self) -> None:
        """Show the record that comes with the package; the slider moves it as any other."""
        example = fusion_example()
        if example is None:
            self.message.value = _INVITATION
        else:
            self.cancel()
            self._show_result(cast(CachedResult[FusionView], example))

    def _key(self) -> Hashable:
        return (self.by.value, str(self._data_dir))

    @property
    def _is_example(self) -> bool:
        return not all(path.name for path in self._subject())

    def _file_stem(self) -> str:
        return "example" if self._is_example else "-".join(path.stem for path in self._subject())

    def _computation(self) -> Computation[FusionView]:
        return partial(view_fusion, *self._subject(), by=self.by.value, data_dir=self._data_dir)

    def _figures(self) -> Mapping[str, Figure]:
        return {"mixing": mixing_figure(self._view().mixing, self.weight.value)}

    def _summary(self) -> str:
        at = self._view().at(self.weight.value)
        vanilla = (
            f"the vanilla average {at[VANILLA]:.2f} %"
            if VANILLA in at
            else "networks of different widths have no vanilla average"
        )
        parents = f"A alone has {at['A']:.2f} %, B alone {at['B']:.2f} %, the ensemble of both {at[ENSEMBLE]:.2f} %."
        told = f"The OT average has <b>{at[FUSED]:.2f} %</b>, {vanilla}. {parents}"
        return f"{_EXAMPLE} {told} {_INVITATION}" if self._is_example else told

    def _alt(self, name: str) -> str:
        at = self._view().at(self.weight.value)
        listed = ", ".join(f"{method} {value:.2f} %" for method, value in at.items())
        return f"Accuracy against the weight of the second network, and by class; at {self.weight.value:.2f}: {listed}"

    def code(self) -> str:
        """Return the Python code that shows what is on the screen."""
        first, second = ("", "") if self._is_example else (str(path) for path in self._subject())
        arguments = f"{first!r}, {second!r}, by={self.by.value!r}, weight={self.weight.value!r}"
        data_dir = "" if self._data_dir is None else f", data_dir={str(self._data_dir)!r}"
        return f"from resmoe_lab import workbench; workbench.fusion({arguments}{data_dir})"


def _field(name: str, path: str | Path) -> ipywidgets.Text:
    return ipywidgets.Text(
        value=str(path),
        description=name,
        tooltip="a safetensors file, or a published checkpoint; press Enter to open it",
        continuous_update=False,
        layout=ipywidgets.Layout(width="24rem", max_width="95%"),
        style={"description_width": "4.5rem"},
    )
