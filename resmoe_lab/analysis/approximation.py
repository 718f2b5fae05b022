"""The approximation error of every method at every keep, as one tidy table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd
import torch

from .._core.errors import UsageError
from .._core.params import KEEP
from .._core.progress import Progress, Tick, silent
from ..centers import Center, Statistics, find_center
from ..experts import ExpertStack
from ..methods import METHODS, CompressedLayer, Method

#: Columns of every table of errors.
COLUMNS = ("layer", "method", "center", "keep", "error", "relative_error")


def approximation_error(stack: ExpertStack, layer: CompressedLayer) -> float:
    """(1/N) sum_k ||W_k[T_k] - restored_k||_F^2 in float64, from the restored experts themselves.

    References
    ----------
    ResMoE, equation (4) and the tables of approximation errors.
    """
    total = 0.0
    restored, orders = layer.restore(), layer.orders
    for k, weights in enumerate(stack.weights):
        aligned = weights if orders is None else weights[orders[k].to(weights.device)]
        total += float((aligned.double() - restored[k].double()).square().sum())
    return total / stack.num_experts


def error_curves(
    stack: ExpertStack,
    *,
    methods: Sequence[str],
    keeps: Sequence[float],
    center: Center | None = None,
    statistics: Statistics | None = None,
    seed: int = 0,
) -> pd.DataFrame:
    """Tabulate the error of methods at every keep, without running a method more than once.

    Parameters
    ----------
    stack
        The experts of one layer.
    methods
        Names in the registry of methods.
    keeps
        Kept fractions.
    center
        The layer's common expert, for the methods that store residuals.
    statistics
        What calibration text tells about the layer, for the methods that use it.
    seed
        For whatever is random in a method.

    Returns
    -------
    pandas.DataFrame
        Columns ``layer, method, center, keep, error, relative_error``.
    """
    options: dict[str, Any] = {"scale": stack.mean_squared_norm(), "center": center, "statistics": statistics}
    rows = [row for name in methods for row in error_rows(METHODS[name](seed=seed), stack, keeps, **options)]
    return pd.DataFrame(rows, columns=list(COLUMNS))


@torch.no_grad()
def error_rows(
    method: Method,
    stack: ExpertStack,
    keeps: Sequence[float],
    *,
    scale: float,
    center: Center | None = None,
    statistics: Statistics | None = None,
) -> list[tuple[Any, ...]]:
    """Return one method's rows of :func:`error_curves`.

    Parameters
    ----------
    method, stack, keeps, center, statistics
        As there.
    scale
        What errors are relative to: the stack's :meth:`~resmoe_lab.experts.ExpertStack.mean_squared_norm`, which is
        asked for once where many methods are compared.
    """
    center_name = center.name if center is not None and method.uses_center else "none"
    errors = method.errors(stack, keeps, center, statistics=statistics)
    return [
        (stack.layer, method.name, center_name, keep, error, error / scale if scale else 0.0)
        for keep, error in zip(keeps, errors, strict=True)
    ]


def approximation_table(
    stacks: Iterable[ExpertStack],
    *,
    methods: Sequence[str],
    centers: Sequence[str],
    keeps: Sequence[float],
    statistics: Mapping[int, Statistics] | None = None,
    seed: int = 0,
    progress: Progress = silent,
) -> pd.DataFrame:
    """Tabulate the error of every method, center, layer and keep; each center is found once a layer.

    Parameters
    ----------
    stacks
        The experts, layer by layer; one layer is in memory at a time if they are made as they are asked for.
    methods, centers
        Names in the registries. Methods that store whole experts have one set of rows, with center ``"none"``.
    keeps
        Kept fractions; a method that cannot keep so little (not even rank 1) has no row there.
    statistics
        What calibration text tells about each layer, for the methods and centers that use it.
    seed
        For whatever is random.
    progress
        Told before every curve; raising from it cancels.

    Returns
    -------
    pandas.DataFrame
        Columns ``layer, method, center, keep, error, relative_error``.
    """
    known = statistics or {}
    alone = [name for name in methods if not METHODS[name].uses_center]
    residual = [name for name in methods if METHODS[name].uses_center]
    rows = []
    for stack in stacks:
        scale = stack.mean_squared_norm()
        found = [
            find_center(stack, center=name, seed=seed, progress=progress, statistics=known.get(stack.layer))
            for name in (centers if residual else ())
        ]
        pairs = [(name, None) for name in alone] + [(name, center) for center in found for name in residual]
        for done, (name, center) in enumerate(pairs):
            progress(Tick(f"errors of layer {stack.layer}", done, len(pairs), {"method": name}))
            method, statistics_of = METHODS[name](seed=seed), known.get(stack.layer)
            possible = possible_keeps(method, keeps, stack)
            rows += error_rows(method, stack, possible, scale=scale, center=center, statistics=statistics_of)
    return pd.DataFrame(rows, columns=list(COLUMNS))


def possible_keeps(method: Method, keeps: Sequence[float], stack: ExpertStack) -> list[float]:
    """Return the kept fractions that a method can have on a layer: few ranks fit into a very small matrix."""
    possible = []
    for keep in keeps:
        KEEP.validate(keep)
        try:
            method.outline(stack.shape, keep)
        except UsageError:
            continue
        possible.append(keep)
    return possible
