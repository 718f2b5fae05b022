"""Methods compared where they weigh the same, not only where they keep the same share."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from .._core.progress import Progress, silent, tracked
from ..centers import Statistics, find_center
from ..checkpoint import Checkpoint
from ..experts import ExpertStack, LayerShape
from ..methods import METHODS
from ..store import forecast, match_bytes
from ..store.ledger import VALUE_BYTES
from .approximation import COLUMNS, error_rows, possible_keeps

#: Whose bytes the others are given.
REFERENCE = "resmoe-up"


def compare_at_equal_bytes(
    stacks: Iterable[ExpertStack],
    *,
    methods: Sequence[str],
    keep: float,
    center: str = "wasserstein",
    reference: str = REFERENCE,
    statistics: Mapping[int, Statistics] | None = None,
    seed: int = 0,
    progress: Progress = silent,
) -> pd.DataFrame:
    """Tabulate the error of methods at the kept fractions where they weigh what one of them weighs.

    Parameters
    ----------
    stacks
        The experts, layer by layer.
    methods
        Names in the registry of methods.
    keep, reference
        The kept fraction of the method whose bytes are the budget.
    center
        The common expert of the residual methods.
    statistics
        What calibration text tells about each layer, for the methods and centers that use it.
    seed
        For whatever is random.
    progress
        Told after every method; raising from it cancels.

    Returns
    -------
    pandas.DataFrame
        Columns ``layer, method, center, keep, error, relative_error, true_bytes, budget``; bytes grow in steps, so
        they may stay below the budget.
    """
    rows = []
    for stack in stacks:
        scale = stack.mean_squared_norm()
        given: dict[str, Any] = {"statistics": (statistics or {}).get(stack.layer), "seed": seed}
        fitted = find_center(stack, center=center, progress=progress, **given)
        shape = stack.shape
        budget = _budget(keep, shape, center=fitted.stored, reference=reference)
        for name in tracked(list(methods), f"equal bytes, layer {stack.layer}", progress):
            method = METHODS[name](seed=seed)
            stored = method.uses_center and fitted.stored
            own = match_bytes(method, budget, shape, center=stored)
            [row] = error_rows(method, stack, [own], scale=scale, center=fitted, statistics=given["statistics"])
            size = forecast(method, shape, keep=own, center=stored).true_bytes
            rows.append((*row, size, budget))
    return pd.DataFrame(rows, columns=[*COLUMNS, "true_bytes", "budget"])


def keep_at_equal_bytes(
    method: str, keep: float, shape: LayerShape, *, center: bool = True, reference: str = REFERENCE
) -> float:
    """Return the kept fraction at which a method weighs what another weighs at `keep`, or as little less as it can.

    Parameters
    ----------
    method, reference
        Who gets the bytes, and whose they are.
    keep
        The reference's kept fraction.
    shape
        Of a layer's design matrices.
    center
        Whether a center is stored beside residuals.
    """
    chosen = METHODS[method]()
    budget = _budget(keep, shape, center=center, reference=reference)
    return match_bytes(chosen, budget, shape, center=chosen.uses_center and center)


def _budget(keep: float, shape: LayerShape, *, center: bool, reference: str) -> int:
    return forecast(METHODS[reference](), shape, keep=keep, center=center).true_bytes


def size_table(
    checkpoint: Checkpoint,
    stack: ExpertStack,
    *,
    layers: int,
    methods: Sequence[str],
    keeps: Sequence[float],
    centers: Sequence[str] = ("wasserstein",),
) -> pd.DataFrame:
    """Tabulate bytes at 16 bit of the compressed experts and of the whole model; all layers of a model have one shape.

    Parameters
    ----------
    checkpoint
        The model.
    stack
        The experts of one of its layers.
    layers
        How many layers are compressed.
    methods, keeps, centers
        What is compared.

    Returns
    -------
    pandas.DataFrame
        Columns ``method, center, keep, format, paper_bytes, true_bytes, original_bytes, model_bytes,
        original_model_bytes``.
    """
    whole = sum(VALUE_BYTES * math.prod(info.shape) for info in checkpoint.tensors.values())
    rows = []
    for name in methods:
        method = METHODS[name]()
        for center in centers if method.uses_center else ("none",):
            for keep in possible_keeps(method, keeps, stack):
                ledger = forecast(method, stack.shape, keep=keep, center=center != "none")
                paper, true, original = (
                    layers * size for size in (ledger.paper_bytes, ledger.true_bytes, ledger.original_bytes)
                )
                row = (name, center, keep, ledger.format, paper, true, original, whole - original + true, whole)
                rows.append(row)
    columns = ("method", "center", "keep", "format", "paper_bytes", "true_bytes", "original_bytes")
    return pd.DataFrame(rows, columns=[*columns, "model_bytes", "original_model_bytes"])
