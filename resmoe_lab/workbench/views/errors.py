"""What every method and center loses, layer by layer and in sum, at equal keep and at equal bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from ... import plots
from ..._core.params import KEEP
from ..._core.progress import Progress, Tick, silent
from ...analysis.curves import equal_curves
from ...analysis.equal_bytes import size_table
from ...centers import DEFAULT_CENTER, NO_CENTER
from ...checkpoint import Checkpoint
from ...experiments.sweep import Sweep
from ...methods import METHODS
from ..layer import open_layer
from ._base import View


@dataclass(frozen=True, eq=False)
class ErrorsView(View):
    """Error curves.

    Parameters
    ----------
    errors
        Columns ``layer, method, center, keep, error, relative_error`` at equal kept fractions.
    matched
        Columns ``layer, method, center, share, keep, relative_error`` at equal bytes: ``share`` of the original
        experts' bytes, and the largest ``keep`` that fits into it.
    sizes
        A sweep's table of bytes.
    """

    errors: pd.DataFrame
    matched: pd.DataFrame
    sizes: pd.DataFrame

    @classmethod
    def of_sweep(cls, sweep: Sweep) -> ErrorsView:
        """The same view of a finished sweep, for its report; a sweep has no curves at equal bytes."""
        return cls(sweep.errors, pd.DataFrame(), sweep.sizes)

    def charts(self) -> Mapping[str, Any]:
        """Curves over keep (their mean, and by layer where there are several), and errors against bytes."""
        charts: dict[str, Any] = {"errors": plots.error_curves(self.errors)}
        if self.errors["layer"].nunique() > 1:
            charts["by layer"] = plots.errors_by_layer(self.errors)
        return {**charts, "bytes": plots.error_by_bytes(self.errors, self.sizes)}

    def tables(self) -> Mapping[str, pd.DataFrame]:
        """Errors at equal keep, at equal bytes, and the bytes."""
        return {"errors": self.errors, "equal_bytes": self.matched, "sizes": self.sizes}


def view_errors(
    checkpoint: Checkpoint,
    layers: Sequence[int],
    *,
    methods: Sequence[str],
    centers: Sequence[str] = (DEFAULT_CENTER,),
    progress: Progress = silent,
) -> ErrorsView:
    """Compute every curve once; moving the sliders then only looks values up.

    Parameters
    ----------
    checkpoint, layers
        Which experts.
    methods, centers
        What is compared.
    progress
        Told before every layer's curves; raising from it cancels.
    """
    residual = any(METHODS[name].uses_center for name in methods)
    errors, matched = [], []
    for done, layer in enumerate(layers):
        opened = []
        for center in centers if residual else (NO_CENTER,):
            bench = open_layer(checkpoint, layer, center=center, progress=progress).value
            opened.append(bench.center)
        progress(Tick("error curves", done, len(layers), {"layer": layer}))
        keep, byte = equal_curves(
            bench.stack, methods=methods, centers=opened, keeps=KEEP.grid(), shares=KEEP.grid(), progress=progress
        )
        errors.append(keep)
        matched.append(byte)
    sizes = size_table(checkpoint, bench.stack, layers=len(layers), methods=methods, keeps=KEEP.grid(), centers=centers)
    progress(Tick("error curves", len(layers), len(layers)))
    return ErrorsView(pd.concat(errors, ignore_index=True), pd.concat(matched, ignore_index=True), sizes)
