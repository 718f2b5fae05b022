"""Error curves over the kept fraction and over bytes, both from one sort or one spectrum a matrix."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from .._core.errors import UsageError
from .._core.progress import Progress, Tick, silent
from ..centers import Center
from ..experts import ExpertStack
from ..methods import METHODS, Method
from ..store.layout import DEFAULT_STORAGE, Storage
from .approximation import COLUMNS, error_rows, possible_keeps
from .budget import match_bytes

#: Bytes of a value of the original, which budgets are shares of.
_VALUE_BYTES = 2


def equal_curves(
    stack: ExpertStack,
    *,
    methods: Sequence[str],
    centers: Sequence[Center],
    keeps: Sequence[float],
    shares: Sequence[float],
    storage: Storage = DEFAULT_STORAGE,
    seed: int = 0,
    progress: Progress = silent,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Tabulate one layer's errors at equal kept fractions, and at equal bytes.

    Parameters
    ----------
    stack
        The experts of one layer.
    methods
        Names in the registry of methods.
    centers
        The layer's centers, each with the residual methods.
    keeps
        Kept fractions; a method that cannot keep so little has no row there.
    shares
        Budgets, as shares of the original experts' bytes at 16 bit; what does not fit has no row.
    storage
        How values are stored.
    seed
        For whatever is random in a method.
    progress
        Called before every curve; raising from it cancels.

    Returns
    -------
    by_keep
        Columns ``layer, method, center, keep, error, relative_error``.
    by_bytes
        The same with ``share``: the errors at the largest kept fraction that fits into each budget.
    """
    pairs = [(name, center) for name in methods for center in (centers if METHODS[name].uses_center else centers[:1])]
    by_keep, by_bytes = [], []
    scale = stack.mean_squared_norm()
    for done, (name, center) in enumerate(pairs):
        progress(Tick(f"errors of layer {stack.layer}", done, len(pairs), {"method": name}))
        method = METHODS[name](seed=seed)
        possible = possible_keeps(method, keeps, stack)
        fitting = _fitting(method, stack, center, shares, storage=storage)
        rows = error_rows(method, stack, [*possible, *fitting.values()], scale=scale, center=center, storage=storage)
        rows = [row[:-1] for row in rows]  # without the bytes, which are the budget's
        by_keep += rows[: len(possible)]
        by_bytes += [(*row, share) for row, share in zip(rows[len(possible) :], fitting, strict=True)]
    progress(Tick(f"errors of layer {stack.layer}", len(pairs), len(pairs)))
    return pd.DataFrame(by_keep, columns=list(COLUMNS)), pd.DataFrame(by_bytes, columns=[*COLUMNS, "share"])


def _fitting(
    method: Method, stack: ExpertStack, center: Center, shares: Sequence[float], *, storage: Storage
) -> dict[float, float]:
    """The largest kept fraction that fits into each budget that anything fits into."""
    stores_center = method.uses_center and center.stored
    original = _VALUE_BYTES * stack.weights.numel()
    fitting = {}
    for share in shares:
        try:
            fitting[share] = match_bytes(method, share * original, stack.shape, center=stores_center, storage=storage)
        except UsageError:
            continue
    return fitting
