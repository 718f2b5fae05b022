"""The approximation error of every method at every keep, as one tidy table."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import torch

from ..centers import CommonExpert
from ..experts import ExpertStack
from ..methods import METHODS, CompressedLayer


def approximation_error(stack: ExpertStack, layer: CompressedLayer) -> float:
    """(1/N) sum_k ||W_k[T_k] - restored_k||_F^2 in float64, from the restored experts themselves.

    References
    ----------
    ResMoE, equation (4) and the tables of approximation errors.
    """
    total = 0.0
    restored = layer.restore()
    for k, weights in enumerate(stack.weights):
        aligned = weights if layer.common is None else weights[layer.common.permutations[k].to(weights.device)]
        total += float((aligned.double() - restored[k].double()).square().sum())
    return total / stack.num_experts


def error_curves(
    stack: ExpertStack, *, methods: Sequence[str], keeps: Sequence[float], common: CommonExpert | None = None
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

    Returns
    -------
    pandas.DataFrame
        Columns ``layer, method, center, keep, error, relative_error``.
    """
    scale = stack.mean_squared_norm()
    rows = []
    with torch.no_grad():
        for name in methods:
            method = METHODS[name]()
            center = common.name if common is not None and method.uses_center else "none"
            for keep, error in zip(keeps, method.errors(stack, keeps, common), strict=True):
                rows.append((stack.layer, name, center, keep, error, error / scale if scale else 0.0))
    return pd.DataFrame(rows, columns=["layer", "method", "center", "keep", "error", "relative_error"])
