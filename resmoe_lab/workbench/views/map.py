"""The map of a checkpoint, as stored and as a method would store it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from ... import plots
from ..._core.progress import Progress, Tick, silent
from ...analysis.approximation import measured_curves
from ...analysis.model_map import compressed_map, map_picture, model_map
from ...centers import CENTERS, DEFAULT_CENTER
from ...checkpoint import Checkpoint
from ...experts import family_of, moe_layers
from ...plots.series import variant_label
from ..layer import open_layer
from ._base import View

AS_STORED = "as stored"


@dataclass(frozen=True, eq=False)
class MapView(View):
    """Where the bytes of a checkpoint are.

    Parameters
    ----------
    name, family
        Of the model.
    forms
        Name of a form -> its map: see :func:`~resmoe_lab.analysis.model_map.model_map`; the checkpoint as stored first.
    errors
        Layer -> relative error of the last form; empty if not measured.
    """

    name: str
    family: str
    forms: Mapping[str, pd.DataFrame]
    errors: Mapping[int, float]

    def charts(self) -> Mapping[str, Any]:
        """Return one chart of all forms."""
        return {"map": plots.model_map_bars(self.forms)}

    def tables(self) -> Mapping[str, pd.DataFrame]:
        """Return all maps, and the errors of the layers."""
        tables = {"map": pd.concat([table.assign(form=name) for name, table in self.forms.items()], ignore_index=True)}
        if self.errors:
            tables["errors"] = pd.DataFrame(list(self.errors.items()), columns=["layer", "relative_error"])
        return tables

    def data(self) -> dict[str, Any]:
        """Return what the picture in a browser is drawn from, as JSON knows it."""
        return map_picture(self.name, self.forms, self.errors)


def view_map(
    checkpoint: Checkpoint,
    *,
    method: str,
    keep: float,
    center: str = DEFAULT_CENTER,
    errors: bool = False,
    progress: Progress = silent,
) -> MapView:
    """Map a checkpoint from its headers, as stored and as a method would store it.

    Parameters
    ----------
    checkpoint
        The checkpoint; a packed one is shown as it is.
    method, keep, center
        How the experts are compressed in the second form.
    errors
        Also compress every layer, for its relative error and, where only that tells, its bytes.
    progress
        Called before every layer that is compressed; raising from it cancels.

    Raises
    ------
    CheckpointError, UsageError
        If the family is unknown, or the method cannot keep so little.
    """
    family, table = family_of(checkpoint).name, model_map(checkpoint)
    if checkpoint.packed:
        return MapView(checkpoint.name, family, {AS_STORED: table}, {})
    name = variant_label(method, keep)
    stored = CENTERS[center].stored
    compressed = compressed_map(table, checkpoint, method=method, keep=keep, center=stored)
    measured: dict[int, float] = {}
    for layer in moe_layers(checkpoint) if errors else []:
        loaded = open_layer(checkpoint, layer, center=center, progress=progress).value
        progress(Tick("error of every layer", len(measured), len(moe_layers(checkpoint))))
        row = measured_curves(loaded.stack, methods=[method], keeps=[keep], center=loaded.center).iloc[0]
        measured[layer] = float(row["relative_error"])
    return MapView(checkpoint.name, family, {AS_STORED: table, f"{name}, forecast": compressed}, measured)
