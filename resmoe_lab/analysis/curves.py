"""Error curves over the kept fraction and over bytes, both from one sort or one spectrum a matrix."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from .._core.errors import UsageError
from .._core.progress import Progress, Tick, silent
from ..centers import Center
from ..experts import ExpertStack
from ..methods import METHODS, Method
from ..store import match_bytes
from ..store.ledger import VALUE_BYTES
from .approximation import COLUMNS, error_rows, possible_keeps


def equal_curves(
    stack: ExpertStack,
    *,
    methods: Sequence[str],
    centers: Sequence[Center],
    keeps: Sequence[float],
    shares: Sequence[float],
    seed: int = 0,
    progress: Progress = silent,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Tabulate one layer's errors where methods keep the same, and where they weigh the same.

    Parameters
    ----------
    stack
        The experts of one layer.
    methods
        Names in the registry of methods.
    centers
        The layer's common experts, each with the residual methods.
    keeps
        Kept fractions; a method that cannot keep so little has no row there.
    shares
        Budgets, as shares of the original experts' bytes at 16 bit; what does not fit has no row.
    seed
        For whatever is random in a method.
    progress
        Told before every curve; raising from it cancels.

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
        own = possible_keeps(method, keeps, stack)
        fitting = _fitting(method, stack, center, shares)
        rows = error_rows(method, stack, [*own, *fitting.values()], scale=scale, center=center)
        by_keep += rows[: len(own)]
        by_bytes += [(*row, share) for row, share in zip(rows[len(own) :], fitting, strict=True)]
    progress(Tick(f"errors of layer {stack.layer}", len(pairs), len(pairs)))
    return pd.DataFrame(by_keep, columns=list(COLUMNS)), pd.DataFrame(by_bytes, columns=[*COLUMNS, "share"])


def _fitting(method: Method, stack: ExpertStack, center: Center, shares: Sequence[float]) -> dict[float, float]:
    """The largest kept fraction that fits into each budget that anything fits into."""
    stores_center = method.uses_center and center.stored
    original = VALUE_BYTES * stack.weights.numel()
    found = {}
    for share in shares:
        try:
            found[share] = match_bytes(method, share * original, stack.shape, center=stores_center)
        except UsageError:
            continue
    return found
