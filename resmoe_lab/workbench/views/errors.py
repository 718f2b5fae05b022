"""Errors of every method and center, by layer and as a mean, at equal keep and at equal bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from ... import plots
from ..._core.errors import UsageError
from ..._core.params import BITS, KEEP
from ..._core.progress import Progress, Tick, silent
from ...analysis.approximation import COLUMNS
from ...analysis.curves import equal_curves
from ...analysis.equal_bytes import size_table
from ...centers import DEFAULT_CENTER, NO_CENTER
from ...checkpoint import Checkpoint
from ...experiments.sweep import Sweep
from ...methods import METHODS
from ..layer import open_layer
from ._base import View

#: Budgets, as shares of 16 bits a weight.
SHARES: tuple[float, ...] = tuple(bits / 16 for bits in BITS.grid())


@dataclass(frozen=True, eq=False)
class ErrorsView(View):
    """Error curves of the experts as stored, at 16 bits.

    Parameters
    ----------
    errors
        Columns ``layer, method, center, keep, error, relative_error`` at equal kept fractions.
    equal_bytes
        Columns ``layer, method, center, share, keep, relative_error`` at equal bytes: ``share`` of the original
        experts' bytes, and the largest ``keep`` that fits into it.
    sizes
        A sweep's table of bytes.
    """

    errors: pd.DataFrame
    equal_bytes: pd.DataFrame
    sizes: pd.DataFrame

    @classmethod
    def of_sweep(cls, sweep: Sweep) -> ErrorsView:
        """Return the view of a finished sweep, for its report; a sweep has no curves at equal bytes."""
        return cls(sweep.errors, pd.DataFrame(), sweep.sizes)

    def charts(self) -> Mapping[str, Any]:
        """Return curves over keep (mean, and by layer where there are several), and errors against bytes."""
        charts: dict[str, Any] = {"errors": plots.error_curves(self.errors)}
        if self.errors["layer"].nunique() > 1:
            charts["by layer"] = plots.errors_by_layer(self.errors)
        return {**charts, "bytes": plots.error_by_bytes(self.errors, self.sizes)}

    def tables(self) -> Mapping[str, pd.DataFrame]:
        """Return errors at equal keep, at equal bytes, and the bytes."""
        return {"errors": self.errors, "equal_bytes": self.equal_bytes, "sizes": self.sizes}


def view_errors(
    checkpoint: Checkpoint,
    layers: Sequence[int],
    *,
    methods: Sequence[str],
    centers: Sequence[str] = (DEFAULT_CENTER,),
    progress: Progress = silent,
) -> ErrorsView:
    """Compute all error curves; sliders then only look values up.

    Parameters
    ----------
    checkpoint, layers
        The experts.
    methods, centers
        Names of the methods and centers.
    progress
        Called before every layer's curves; raising from it cancels.

    Raises
    ------
    CheckpointError, UsageError
        If the experts cannot be read, or no layer, method or center is named.
    """
    if not layers or not methods or not centers:
        raise UsageError("nothing to compare: choose at least one layer, one method and one center")
    uses_center = any(METHODS[name].uses_center for name in methods)
    errors, stored, equal_bytes = [], [], []
    for done, layer in enumerate(layers):
        fitted = []
        for center in centers if uses_center else (NO_CENTER,):
            loaded = open_layer(checkpoint, layer, center=center, progress=progress).value
            fitted.append(loaded.center)
        progress(Tick("error curves", done, len(layers), {"layer": layer}))
        by_keep, by_bytes = equal_curves(
            loaded.stack, methods=methods, centers=fitted, keeps=KEEP.grid(), shares=SHARES, progress=progress
        )
        stored.append(by_keep)
        errors.append(by_keep[list(COLUMNS)])
        equal_bytes.append(by_bytes)
    options: dict[str, Any] = {"methods": methods, "keeps": KEEP.grid(), "centers": centers}
    sizes = size_table(checkpoint, loaded.stack, layers=len(layers), stored=pd.concat(stored), **options)
    progress(Tick("error curves", len(layers), len(layers)))
    return ErrorsView(pd.concat(errors, ignore_index=True), pd.concat(equal_bytes, ignore_index=True), sizes)
