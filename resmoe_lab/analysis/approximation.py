"""The approximation error of every method at every keep, as one tidy table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd
import torch

from .._core.deprecation import renamed_arguments
from .._core.errors import UsageError
from .._core.params import KEEP
from ..centers import Center, Statistics
from ..experts import ExpertStack
from ..methods import METHODS, CompressedLayer, Method
from ..store.layout import DEFAULT_STORAGE, Storage

#: Columns of every table of errors.
COLUMNS = ("layer", "method", "center", "keep", "error", "relative_error")
#: Those of bytes, where what is stored was looked at.
MEASURED = ("true_bytes", "paper_bytes")


def approximation_error(stack: ExpertStack, layer: CompressedLayer) -> float:
    """Return (1/N) sum_k ||W_k[T_k] - restored_k||_F^2 in float64, from the restored experts themselves.

    References
    ----------
    ResMoE, equation (4) and the tables of approximation errors.
    """
    return layer.approximation_error(stack)


@renamed_arguments(common="center")
def error_curves(
    stack: ExpertStack,
    *,
    methods: Sequence[str],
    keeps: Sequence[float],
    center: Center | None = None,
    statistics: Statistics | None = None,
    storage: Storage = DEFAULT_STORAGE,
    seed: int = 0,
) -> pd.DataFrame:
    """Tabulate the error of methods at every keep, of what is stored, without running a method more than once.

    Parameters
    ----------
    stack
        The experts of one layer.
    methods
        Names in the registry of methods.
    keeps
        Kept fractions.
    center
        The layer's center, for the methods that store residuals.
    statistics
        What calibration text tells about the layer, for the methods that use it.
    storage
        How values are stored, 16 bits if not given; ``EXACT_STORAGE`` for the errors of the methods alone.
    seed
        For whatever is random in a method.

    Returns
    -------
    pandas.DataFrame
        Columns ``layer, method, center, keep, error, relative_error``.

    Examples
    --------
    >>> import resmoe_lab as rl
    >>> stack = rl.load_stack(rl.open_checkpoint("mixtral-tiny"), layer=0)
    >>> curves = rl.error_curves(stack, methods=["up"], keeps=[0.25, 0.5])
    >>> bool(curves.error.is_monotonic_decreasing)
    True
    """
    options: dict[str, Any] = {"center": center, "statistics": statistics, "storage": storage, "seed": seed}
    return measured_curves(stack, methods=methods, keeps=keeps, **options)[list(COLUMNS)]


def measured_curves(
    stack: ExpertStack,
    *,
    methods: Sequence[str],
    keeps: Sequence[float],
    center: Center | None = None,
    statistics: Statistics | None = None,
    storage: Storage = DEFAULT_STORAGE,
    seed: int = 0,
) -> pd.DataFrame:
    """:func:`error_curves` with the bytes of what is stored: ``true_bytes``, ``paper_bytes`` as the paper counts."""
    scale = stack.mean_squared_norm()
    rows: list[tuple[Any, ...]] = []
    for name in methods:
        method = METHODS[name](seed=seed)
        rows += error_rows(method, stack, keeps, scale=scale, center=center, statistics=statistics, storage=storage)
    return pd.DataFrame(rows, columns=[*COLUMNS, *MEASURED])


@torch.no_grad()
def error_rows(
    method: Method,
    stack: ExpertStack,
    keeps: Sequence[float],
    *,
    scale: float,
    center: Center | None = None,
    statistics: Statistics | None = None,
    storage: Storage = DEFAULT_STORAGE,
) -> list[tuple[Any, ...]]:
    """Return one method's rows of :func:`measured_curves`.

    Parameters
    ----------
    method, stack, keeps, center, statistics, storage
        As there.
    scale
        What errors are relative to: the stack's :meth:`~resmoe_lab.experts.ExpertStack.mean_squared_norm`, which is
        asked for once where many methods are compared.
    """
    center_name = center.name if center is not None and method.uses_center else "none"
    points = method.measure(stack, keeps, center, statistics=statistics, storage=storage)
    return [
        (stack.layer, method.name, center_name, keep, error, error / scale if scale else 0.0, *nbytes)
        for keep, (error, *nbytes) in zip(keeps, points, strict=True)
    ]


def possible_keeps(method: Method, keeps: Sequence[float], stack: ExpertStack) -> list[float]:
    """Return the kept fractions that a method can have on a layer: few ranks fit into a very small matrix."""
    possible = []
    for keep in keeps:
        KEEP.validate(keep)
        try:
            method.counts(stack.shape, keep)
        except UsageError:
            continue
        possible.append(keep)
    return possible
