"""Error curves over the kept fraction and over bytes, both from one sort or one spectrum a matrix."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import pandas as pd

from .._core.errors import UsageError
from .._core.params import keep_of_bits
from .._core.progress import Progress, Tick, silent
from ..centers import Center
from ..experts import ExpertStack
from ..methods import METHODS, Method
from ..store.layout import DEFAULT_STORAGE, Storage
from .approximation import COLUMNS, MEASURED, error_rows, possible_keeps
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
        Columns ``layer, method, center, keep, error, relative_error, true_bytes, paper_bytes``.
    by_bytes
        The first six with ``share``: the errors at the largest kept fraction that fits into each budget.
    """
    pairs = [(name, center) for name in methods for center in (centers if METHODS[name].uses_center else centers[:1])]
    by_keep, by_bytes = [], []
    scale = stack.mean_squared_norm()
    for done, (name, center) in enumerate(pairs):
        progress(Tick(f"errors of layer {stack.layer}", done, len(pairs), {"method": name}))
        method = METHODS[name](seed=seed)
        possible = possible_keeps(method, keeps, stack)
        fitting = _fitting(method, stack, center, shares, storage=storage)
        points = _points(method, stack, [*possible, *fitting.values()], scale=scale, center=center, storage=storage)
        by_keep += [points[keep] for keep in possible if keep in points]
        by_bytes += [(*points[keep][: len(COLUMNS)], share) for share, keep in fitting.items() if keep in points]
    progress(Tick(f"errors of layer {stack.layer}", len(pairs), len(pairs)))
    return pd.DataFrame(by_keep, columns=[*COLUMNS, *MEASURED]), pd.DataFrame(by_bytes, columns=[*COLUMNS, "share"])


def errors_at_bits(
    stack: ExpertStack,
    *,
    methods: Sequence[str],
    bits: Sequence[float],
    center: Center | None = None,
    storage: Storage = DEFAULT_STORAGE,
    seed: int = 0,
    progress: Progress = silent,
) -> pd.DataFrame:
    """Tabulate the error of methods at equal bytes: with no more than so many stored bits a weight.

    Parameters
    ----------
    stack
        The experts of one layer.
    methods
        Names in the registry of methods.
    bits
        Stored bits a weight: center, indices, scales and tables included.
    center
        The layer's center, for the methods that store residuals.
    storage, seed, progress
        As for :func:`equal_curves`.

    Returns
    -------
    pandas.DataFrame
        Columns ``layer, method, center, keep, error, relative_error, bits``; a method that does not fit into so few
        bits has no row there.

    Raises
    ------
    UsageError
        If a method needs a center and there is none, or `bits` are not in (0, 16].

    Examples
    --------
    >>> import resmoe_lab as rl
    >>> stack = rl.load_stack(rl.open_checkpoint("mixtral-tiny"), layer=0)
    >>> methods, center = ["rtn", "coded", "resmoe-coded"], rl.find_center(stack)
    >>> table = rl.errors_at_bits(stack, methods=methods, bits=[3], center=center)
    >>> {row.method: round(row.relative_error, 3) for row in table.itertuples()}
    {'rtn': 0.199, 'coded': 0.023, 'resmoe-coded': 0.009}
    """
    if center is None and any(METHODS[name].uses_center for name in methods):
        raise UsageError("a method of these needs a center: find one first, for example 'wasserstein'")
    scale, rows = stack.mean_squared_norm(), list[tuple[Any, ...]]()
    for done, name in enumerate(methods):
        progress(Tick(f"errors of layer {stack.layer}", done, len(methods), {"method": name}))
        method = METHODS[name](seed=seed)
        fitting = _fitting(method, stack, center, [keep_of_bits(value) for value in bits], storage=storage)
        points = _points(method, stack, fitting.values(), scale=scale, center=center, storage=storage)
        rows += [(*points[keep][: len(COLUMNS)], 16 * share) for share, keep in fitting.items() if keep in points]
    return pd.DataFrame(rows, columns=[*COLUMNS, "bits"])


def _points(method: Method, stack: ExpertStack, keeps: Iterable[float], **options: Any) -> dict[float, tuple[Any, ...]]:
    """One method's rows of errors by kept fraction, each measured once.

    Only coding tells whether so few bytes hold the headers of what is coded: what they do not hold has no row.
    """
    wanted = sorted(set(keeps))
    while wanted:
        try:
            return dict(zip(wanted, error_rows(method, stack, wanted, **options), strict=True))
        except UsageError:
            if not method.variable_size or len(wanted) == 1:
                raise
            del wanted[0]
    return {}


def _fitting(
    method: Method, stack: ExpertStack, center: Center | None, shares: Sequence[float], *, storage: Storage
) -> dict[float, float]:
    """The largest kept fraction that fits into each budget that anything fits into."""
    stores_center = method.uses_center and center is not None and center.stored
    original = _VALUE_BYTES * stack.weights.numel()
    fitting = {}
    for share in shares:
        try:
            fitting[share] = match_bytes(method, share * original, stack.shape, center=stores_center, storage=storage)
        except UsageError:
            continue
    return fitting
