"""The approximation error of every method at every keep, as one tidy table."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import torch

from ..centers import CommonExpert, Statistics
from ..experts import ExpertStack
from ..methods import METHODS, CompressedLayer


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
    common: CommonExpert | None = None,
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
    common
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
    scale = stack.mean_squared_norm()
    rows = []
    with torch.no_grad():
        for name in methods:
            method = METHODS[name](seed=seed)
            center = common.name if common is not None and method.uses_center else "none"
            errors = method.errors(stack, keeps, common, statistics=statistics)
            for keep, error in zip(keeps, errors, strict=True):
                rows.append((stack.layer, name, center, keep, error, error / scale if scale else 0.0))
    return pd.DataFrame(rows, columns=["layer", "method", "center", "keep", "error", "relative_error"])
